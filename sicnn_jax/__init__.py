"""SICNN: Super-Identity CNN for face hallucination (ECCV 2018) in JAX/Flax."""
