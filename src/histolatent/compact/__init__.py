"""Latent manifold compaction: an embedding in which the states of stain of one tile lie together."""
