"""Experiments, so that they can be repeated; docs/notes has their results."""
