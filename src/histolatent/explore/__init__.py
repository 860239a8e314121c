"""Move in a latent space: directions, erasure."""
