"""Library users import the losses without TensorFlow and without a device."""

import pathlib
import subprocess
import sys

PROGRAM = """
import sys
import sicnn_jax.losses
from jax._src import xla_bridge
assert 'tensorflow' not in sys.modules
assert not xla_bridge.backends_are_initialized()
"""


def test_importing_losses_loads_no_tensorflow_and_starts_no_backend():
    root = pathlib.Path(__file__).parents[2]
    subprocess.run([sys.executable, '-c', PROGRAM], cwd=root, check=True, timeout=60)
