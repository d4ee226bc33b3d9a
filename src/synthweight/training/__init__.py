"""One training: the LightningModule, its objective, its trainer and its checkpoints.

`trainer.fit` takes a `job.TrainingJob` of tokens, scores and settings, and gives the epochs' metrics and the
selected network. `module` has the steps, `objective` the loss, `history` the epochs, `predict` the evaluation.
"""
