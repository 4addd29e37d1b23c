"""Makes a data set from photographs, for `python -m sicnn_jax.data.prepare`."""
