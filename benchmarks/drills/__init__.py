"""What shows that a promise of docs/reliability.md holds, mostly by breaking things."""
