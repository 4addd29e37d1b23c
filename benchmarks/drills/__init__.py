"""Drills that test the promises of docs/reliability.md, mostly by breaking things."""
