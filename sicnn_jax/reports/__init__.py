"""HTML pages: of a run, and of a data set that was made."""
