"""Every test sees eight simulated CPU devices and no accelerator."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.tiny_training import jaxlib_version, xla_flags

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {xla_flags(8)}'
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

# Many tests train the same tiny networks: compile each program once a session, whose
# processes inherit the directory.
if 'PYTEST_XDIST_WORKER' not in os.environ:
    _CACHE = tempfile.mkdtemp(prefix='sicnn_jax_tests_')
    atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
    os.environ['JAX_COMPILATION_CACHE_DIR'] = _CACHE
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.2'
# jaxlib 0.5 crashes on what it reads from there.
if jaxlib_version() < (0, 6):
    os.environ['JAX_ENABLE_COMPILATION_CACHE'] = 'false'

# Each compiled program holds memory mappings, of which a process may have 65,530; XLA
# crashes without more. Of Linux, where the tests are run.
_MAPPINGS = Path('/proc/self/maps')
_MANY = 40_000


@pytest.fixture(scope='module', autouse=True)
def _forget_programs():
    """Frees a module's compiled programs."""
    yield
    _clear_caches()


@pytest.fixture(autouse=True)
def _forget_many_programs():
    """Frees them earlier where they are many."""
    yield
    if _MAPPINGS.exists() and _MAPPINGS.read_bytes().count(b'\n') > _MANY:
        _clear_caches()


def _clear_caches():
    import jax

    jax.clear_caches()
