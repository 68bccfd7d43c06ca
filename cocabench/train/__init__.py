"""Training: files for open_clip's trainer, recipes, and checkpoints that are evaluated as they come."""
