"""Timings, compared with other programs if there are any."""
