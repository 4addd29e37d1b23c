"""Experiments: one readable file each, over what `common.py` says."""
