"""A run of all three stages of the paper at the smallest shapes, on CPU devices.

As values of the config's fields, or as a command for a process of its own; the drills
of benchmarks/ run it, too.
"""

import os
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# Of `jax.jit`, for what takes longer to run than to compile: see `xla_flags`.
RUNS_LONG = {'xla_backend_optimization_level': 1}
STAGES = ('recognition', 'hallucination', 'domain_integrated')
_FIELDS = {
    'data.identities': 4,
    'data.images_per_identity': 4,
    'data.test_identities': 3,
    'data.test_images_per_identity': 4,
    'cnnr.widths': (2, 2, 3, 4),
    'cnnr.depths': (1, 1, 1, 1),
    'cnnr.feature_dim': 8,
    'cnnh.width': 3,
    'cnnh.growth': 2,
    'cnnh.depth': 1,
    'cnnh.deconv_width': 3,
    'log_every': 2,
    'evaluation.faces': 12,
    'evaluation.pairs': 20,
    'evaluation.final_pairs': 20,
    'evaluation.pictures': 2,
}
# Of each stage.
_STAGE_FIELDS = {'batch_size': 8, 'evaluate_every': 10, 'checkpoint_every': 2}


def fields(steps: int, stages: tuple[str, ...] = STAGES) -> dict[str, Any]:
    """What makes configs/di.py:demo tiny: values by the path of the field."""
    return (
        _FIELDS
        | {'stages': stages}
        | {
            f'{stage}.{field}': value
            for stage in stages
            for field, value in (_STAGE_FIELDS | {'steps': steps}).items()
        }
    )


def command(workdir: Path, fields: Mapping[str, Any]) -> list[str]:
    """Trains all stages, with those values of the config's fields, and evaluates."""
    return [
        sys.executable,
        *('-m', 'sicnn_jax.main', '--config=configs/di.py:demo'),
        f'--workdir={workdir}',
        *(f'--config.{field}={value}' for field, value in fields.items()),
    ]


def xla_flags(devices: int) -> str:
    """So many CPU devices, and programs that are soon compiled.

    Programs of tiny shapes take longer to compile than to run. Compiled less well, and
    by the older way of fusing, they take a third of the time. jax 0.11 lacks that way.
    """
    flags = [
        f'--xla_force_host_platform_device_count={devices}',
        '--xla_backend_optimization_level=0',
    ]
    if jaxlib_version() < (0, 11):
        flags.append('--xla_cpu_use_fusion_emitters=false')
    return ' '.join(flags)


def jaxlib_version() -> tuple[int, ...]:
    """Major and minor, without importing it, which would read the flags."""
    return tuple(map(int, version('jaxlib').split('.')[:2]))


def environment(devices: int) -> dict[str, str]:
    """For such a run: so many CPU devices, and programs compiled once for all runs."""
    cache = Path(tempfile.gettempdir()) / 'sicnn_jax_drills'
    return os.environ | {
        'PYTHONPATH': str(ROOT),
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': xla_flags(devices),
        'JAX_COMPILATION_CACHE_DIR': str(cache),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',
        'TF_CPP_MIN_LOG_LEVEL': '3',
    }
