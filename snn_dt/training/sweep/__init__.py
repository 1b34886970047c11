"""Sweeps: parallel grids of training runs on this machine or a Ray cluster."""
