"""Where curves go while a run trains: CSV, TensorBoard, W&B."""
