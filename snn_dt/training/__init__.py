"""The training loop with its state and metrics."""
