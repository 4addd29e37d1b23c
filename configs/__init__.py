"""Experiments: a readable file each, over the defaults of `sicnn_jax.config.schema`."""
