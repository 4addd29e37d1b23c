"""Procedural faces: the built-in data of the project, drawn on the device."""

from sicnn_jax.data.procedural_faces.drawing import AT_ONCE, render_face, render_faces

__all__ = ['AT_ONCE', 'render_face', 'render_faces']
