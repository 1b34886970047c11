"""How long a test waits for another process or thread before it is taken to hang.

A limit exists only to catch what never ends. It says nothing about speed, and no test may fail on a machine that has
ten times as much to do as it has cores: starts of processes, kernel builds and clusters take minutes there.
"""

HANG = 900.0
"""Seconds."""
