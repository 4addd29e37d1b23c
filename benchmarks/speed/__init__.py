"""Timings, compared with other programs where there are any."""
