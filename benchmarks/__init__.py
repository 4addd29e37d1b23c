"""Measurements, each a command of its own: `speed/`, `drills/` and `studies/`.

Results are kept in `results/`.
"""
