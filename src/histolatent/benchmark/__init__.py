"""Does it help at sites that nobody saw: encoders trained on one site, read at others."""
