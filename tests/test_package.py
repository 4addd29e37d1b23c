"""The package as a library, from its name on."""

import subprocess
import sys

import sicnn_jax


def test_its_parts_are_found_from_its_name():
    assert {'losses', 'models', 'algorithm'} <= {*dir(sicnn_jax)}
    for name in sicnn_jax.__all__:
        assert getattr(sicnn_jax, name).__name__ == f'sicnn_jax.{name}'
    assert sicnn_jax.__version__.count('.') == 2
    assert not hasattr(sicnn_jax, 'steps')


def test_it_alone_imports_nothing():
    program = 'import sys, sicnn_jax; print("jax" in sys.modules)'
    printed = subprocess.check_output([sys.executable, '-c', program], text=True)
    assert printed.strip() == 'False'
