"""Training: settings, seeded batches, the loop, checkpoints and the log."""
