"""Keeps compiled programs for the next process."""

import contextlib
import hashlib
import os
import platform
from pathlib import Path

import jax

from sicnn_jax import paths

_CPU_INFO = Path('/proc/cpuinfo')
# The fields that identify the instructions of a processor.
_FEATURES = ('model name', 'flags', 'Features')


def keep_programs() -> None:
    """Makes JAX keep compiled programs in `~/.cache/sicnn_jax` and use them again.

    A program for a CPU may use instructions that another CPU lacks, so each kind of CPU
    has its own directory. JAX itself distinguishes programs, releases and flags.

    `JAX_COMPILATION_CACHE_DIR` names another directory, and
    `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing. Nothing is kept without a
    writable home either, or on a CPU by JAX 0.5, which crashes when it reads programs.
    """
    on_cpu = jax.default_backend() == 'cpu'
    if on_cpu and jax.__version_info__ < (0, 6):
        jax.config.update('jax_enable_compilation_cache', False)
    if jax.config.values['jax_compilation_cache_dir'] is not None:
        return
    # Not every user of a container has a home.
    home = Path(os.path.expanduser('~'))
    if not home.is_absolute():
        return
    kind = _cpu() if on_cpu else jax.default_backend()
    directory = home / '.cache' / 'sicnn_jax' / kind
    try:
        paths.check_writable(directory)
    except paths.PathError:
        return
    jax.config.update('jax_compilation_cache_dir', str(directory))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.2)


def _cpu():
    """A name for processors with the same instructions, or else for this machine."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = _CPU_INFO.read_text('utf-8').splitlines()
    said = sorted({line for line in lines if line.startswith(_FEATURES)})
    known = '\n'.join([platform.machine(), *(said or [platform.node()])])
    return f'cpu-{hashlib.sha256(known.encode()).hexdigest()[:12]}'
