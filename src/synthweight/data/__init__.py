"""Texts with labels: read, checked, hashed, split, subset, tokenised, batched. Nothing here knows a loss."""
