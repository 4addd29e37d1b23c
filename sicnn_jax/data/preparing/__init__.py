"""What makes a data set of photographs: `python -m sicnn_jax.data.prepare`."""
