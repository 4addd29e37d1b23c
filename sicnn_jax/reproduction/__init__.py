"""The tables and figures of the paper, from runs that are trained for them."""
