"""What is timed, beside others where there are others."""
