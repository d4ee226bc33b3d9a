"""Types and ranges of every setting, and the border to Hydra."""
