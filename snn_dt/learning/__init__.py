"""Losses, learning rules and regularisers."""
