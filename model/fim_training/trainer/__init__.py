"""The trainer: batches, objective, optimizers, runs and their state."""
