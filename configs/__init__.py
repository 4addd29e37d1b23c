"""Experiments, each in one readable file over the defaults of `config.schema`."""
