"""What was tried, so that it can be tried again; docs/notes says what came out."""
