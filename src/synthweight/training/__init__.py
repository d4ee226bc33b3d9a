"""One training: the LightningModule, its objective, its trainer and its checkpoints."""
