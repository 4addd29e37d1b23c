"""What was tried, so that it can be tried again; docs/results.md says what came out."""
