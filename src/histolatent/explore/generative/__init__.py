"""Models that make tiles of vectors: autoencoders, variational ones, and decoders of any frozen encoder."""
