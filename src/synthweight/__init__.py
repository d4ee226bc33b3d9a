"""Data weighting for text classifiers trained on LLM-written data: losses, checkers, sweeps, tables."""

__version__ = "0.1.0"
