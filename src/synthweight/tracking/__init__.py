"""Where curves go while a run trains: CSV, TensorBoard, W&B.

`loggers.open_logger` gives a run its logger; `wandb` alone knows W&B's client.
"""
