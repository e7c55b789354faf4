"""Training on Lightning: batches, the task, folds, checkpoints."""
