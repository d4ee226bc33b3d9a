"""Weights that are learned: meta-gradients and what computes them."""
