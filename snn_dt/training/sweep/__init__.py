"""Sweeps: grids of training runs, in parallel on this machine or on a Ray cluster."""
