"""One run from its settings to its row on disk."""
