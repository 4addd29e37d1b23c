"""Shared by the benchmarks: timing, records and tables.

Records go to `results/`. For trials whose figures mean nothing, the environment
variable BENCHMARK_RESULTS names another directory.
"""

import datetime
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

RESULTS = Path(__file__).with_name('results')


def time_calls(function: Callable[[], Any], calls: int) -> list[float]:
    """Seconds of each call, up to the moment when its result is computed."""
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - start)
    return seconds


def in_turns(
    timers: Mapping[str, Callable[[], list[float]]], rounds: int
) -> dict[str, list[float]]:
    """Medians of each timer's results, by round; timers take turns: A, B, A, B, …"""
    medians = {name: [] for name in timers}
    for _ in range(rounds):
        for name, timer in timers.items():
            medians[name].append(statistics.median(timer()))
    return medians


def in_own_process(function: Callable, *arguments: Any) -> Any:
    """Calls a function in a new process."""
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.apply(function, arguments)


def slope(values: list[float]) -> float:
    """Least-squares slope of values over their positions; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    return statistics.linear_regression(range(len(values)), values).slope


def matmul_gflops(dtype: str = 'float32', calls: int = 7) -> float:
    """Billions of operations per second of a large matrix product, as a ceiling."""
    size = 2048 if jax.default_backend() == 'cpu' else 8192
    x = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(x, x).block_until_ready()
    return 2 * size**3 / min(time_calls(lambda: product(x, x), calls)) / 1e9


def results_directory() -> Path:
    """The directory of records, made if needed."""
    directory = Path(os.environ.get('BENCHMARK_RESULTS', RESULTS))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def append_record(name: str, record: dict) -> None:
    """Appends a line to `results/NAME.jsonl`, with the machine."""
    with (results_directory() / f'{name}.jsonl').open('a', encoding='utf-8') as file:
        file.write(json.dumps(record | _machine()) + '\n')


def write_record(name: str, record: dict) -> None:
    """Writes `results/NAME.json`, with the machine."""
    out = results_directory() / f'{name}.json'
    text = json.dumps(record | _machine(), indent=1, ensure_ascii=False)
    out.write_text(text + '\n', encoding='utf-8')
    print(f'Written: {out}')


def earlier_record(name: str) -> dict | None:
    """The record that `write_record` would replace, if there is one."""
    path = results_directory() / f'{name}.json'
    return json.loads(path.read_text(encoding='utf-8')) if path.exists() else None


def newest_record(name: str, **wanted: Any) -> dict | None:
    """The last line of `results/NAME.jsonl` with these values, if there is one."""
    path = RESULTS / f'{name}.jsonl'
    lines = path.read_text(encoding='utf-8').splitlines() if path.exists() else []
    for line in reversed(lines):
        record = json.loads(line)
        if wanted.items() <= record.items():
            return record
    return None


def markdown(
    columns: tuple[str, ...], rows: list[tuple[str, list[str]]], first: str = 'method'
) -> str:
    """A Markdown table of (method, cells)."""
    lines = [(first, columns), *rows]
    lines = [f'| {name} | ' + ' | '.join(cells) + ' |' for name, cells in lines]
    lines.insert(1, '| --- |' + ' ---: |' * len(columns))
    return '\n'.join(lines)


def versions(*packages: str) -> dict[str, str]:
    """Installed versions, for a record."""
    return {package: metadata.version(package) for package in packages}


def _machine():
    return {
        'date': datetime.date.today().isoformat(),
        'device': jax.devices()[0].device_kind,
        'cores': os.cpu_count(),
        'machine': platform.machine(),
        'jax': jax.__version__,
    }
