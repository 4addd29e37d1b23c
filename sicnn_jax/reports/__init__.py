"""HTML pages about a run, and about a data set."""
