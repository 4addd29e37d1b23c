"""Faces in, batches out; the only package that may import TensorFlow."""
