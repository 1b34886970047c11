"""What happens to gradients on their way back: over surrogate slopes, over layers, over time."""
