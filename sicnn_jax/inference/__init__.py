"""A trained network used: faces in, hallucinated faces or features out.

What trains is not imported here.
"""

from sicnn_jax.inference.hallucinator import Hallucinator
from sicnn_jax.inference.networks import (
    degrade_faces,
    enlarge_faces,
    extract_features,
    frozen,
    super_resolve,
)

__all__ = [
    'Hallucinator',
    'degrade_faces',
    'enlarge_faces',
    'extract_features',
    'frozen',
    'super_resolve',
]
