"""A forward pass without padding, for encoders of a known family."""
