"""What the benchmarks share: timing, and where their records go."""

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

_RESULTS = Path(__file__).with_name('results')


def time_calls(function: Callable[[], Any], calls: int) -> list[float]:
    """Seconds of each of so many calls, until what they return is computed."""
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - start)
    return seconds


def matmul_gflops(size: int = 2048, calls: int = 7) -> float:
    """Billions of operations a second of a float32 matrix product: the ceiling."""
    x = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    product(x, x).block_until_ready()
    return 2 * size**3 / min(time_calls(lambda: product(x, x), calls)) / 1e9


def append_record(name: str, record: dict) -> None:
    """Appends a line to `results/NAME.jsonl`, with the machine."""
    with (_RESULTS / f'{name}.jsonl').open('a') as file:
        file.write(json.dumps(record | _machine()) + '\n')


def write_record(name: str, record: dict) -> None:
    """Writes `results/NAME.json`, with the machine."""
    out = _RESULTS / f'{name}.json'
    text = json.dumps(record | _machine(), indent=1, ensure_ascii=False)
    out.write_text(text + '\n')
    print(f'Written: {out}')


def markdown(columns: tuple[str, ...], rows: list[tuple[str, list[str]]]) -> str:
    """A Markdown table of (method, cells)."""
    lines = [('method', columns), *rows]
    lines = [f'| {name} | ' + ' | '.join(cells) + ' |' for name, cells in lines]
    lines.insert(1, '| --- |' + ' ---: |' * len(columns))
    return '\n'.join(lines)


def _machine():
    return {
        'device': jax.devices()[0].device_kind,
        'cores': os.cpu_count(),
        'machine': platform.machine(),
        'jax': jax.__version__,
    }
