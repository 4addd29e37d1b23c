"""Measurements, each its own command: `speed/`, `drills/` and `studies/`.

Results are kept in `results/`.
"""
