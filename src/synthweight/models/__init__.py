"""Which network, and its forward pass."""
