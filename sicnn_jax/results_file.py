"""Results as JSON, with what they were measured on; written whole or not at all."""

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np


def environment() -> dict[str, Any]:
    """The device, the machine and versions of libraries."""
    return {
        'device': jax.devices()[0].device_kind,
        'machine': platform.processor() or platform.machine(),
        'versions': {'jax': jax.__version__, 'numpy': np.__version__},
    }


def write_results(results: Mapping[str, Any], path: Path) -> None:
    """Writes a JSON file, under a temporary name first."""
    unfinished = path.with_suffix('.unfinished')
    unfinished.write_text(json.dumps(results, indent=2, ensure_ascii=False) + '\n')
    unfinished.replace(path)
