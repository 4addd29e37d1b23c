"""Measurements, each a command of its own; results are kept in `results/`."""
