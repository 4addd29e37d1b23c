"""Uses a trained network: faces in, hallucinated faces or features out.

It imports nothing that trains.
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
