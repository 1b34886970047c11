"""Grids of experiments: trials in run folders, run side by side on this machine or on a Ray cluster."""
