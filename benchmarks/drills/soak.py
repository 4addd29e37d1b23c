"""Trains long, with evaluation and checkpoints: does anything grow or slow down?

    python -m benchmarks.drills.soak --minutes=30

The drill runs domain-integrated training at the sizes of configs/di.py:demo, evaluated
and saved every 100 steps, and stops it by SIGTERM when the time is up. It measures
memory (resident, without files) and open files every two seconds, and the time of a
step over windows of 20 steps without evaluation, drawing or saving. It leaves out the
first fifth, in which everything is set up, divides the rest of each measurement into
ten parts and fits a line to their means. It writes a record and a plot, and needs Linux
and `pip install -e '.[bench]'`.
"""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.measuring import markdown, results_directory, write_record
from sicnn_jax.main import STOPPED
from sicnn_jax.reports.curves import read_metrics
from tests import tiny_training

_EVERY = 2.0
_WARM_UP = 0.2
_BLOCKS = 10
# Seconds until the third stage must begin.
_PATIENCE = 600
_STAGE = 'domain_integrated'
_FIELDS = {
    'stages': tiny_training.STAGES,
    # An epoch is only 200 steps, because the memory of the buffers that shuffle it
    # grows over the first two or three epochs.
    'data.images_per_identity': 4,
    'recognition.steps': 20,
    'hallucination.steps': 20,
    f'{_STAGE}.steps': 1_000_000,
    f'{_STAGE}.evaluate_every': 100,
    f'{_STAGE}.checkpoint_every': 100,
}


def watch(workdir: Path, seconds: float) -> tuple[list[tuple[float, ...]], int]:
    """Runs the training for some seconds, counted from the third stage's first steps.

    Returns:
      (seconds, MiB of memory, open files) of each measurement, and the exit status.
    """
    # Resident memory then is what the program holds: large buffers return to the kernel
    # when they are freed, and are not in huge pages, which the kernel joins and splits
    # as it likes.
    environment = tiny_training.environment(1) | {
        'MALLOC_MMAP_THRESHOLD_': str(1 << 20)
    }
    environment.pop('GLIBC_TUNABLES', None)
    process = subprocess.Popen(
        tiny_training.command(workdir, _FIELDS),
        cwd=tiny_training.ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    lines = workdir / _STAGE / 'metrics.jsonl'
    looks: list[tuple[float, ...]] = []
    start, begun = time.monotonic(), None
    while True:
        time.sleep(_EVERY)
        now = time.monotonic()
        if process.poll() is not None or (begun is None and now > start + _PATIENCE):
            break
        if begun is None and lines.is_file() and lines.stat().st_size:
            begun = now
        if begun is not None:
            looks.append((now - begun, *_look(process.pid)))
            if now > begun + seconds:
                break
    process.send_signal(signal.SIGTERM)
    return looks, process.wait()


def _look(pid):
    status = Path(f'/proc/{pid}/status').read_text()
    memory = int(re.search(r'RssAnon:\s+(\d+) kB', status)[1]) / 1024
    return memory, len(list(Path(f'/proc/{pid}/fd').iterdir()))


def step_times(stage: Path, batch_size: int) -> list[tuple[float, float]]:
    """(step, seconds per step) of each window that consists of steps only.

    An evaluation belongs to the window that ends with it; the pictures and checkpoints
    that follow it belong to the next window.
    """
    times, quiet = [], True
    for line in read_metrics(stage):
        evaluated = 'identity_similarity' in line
        if quiet and not evaluated:
            times.append((line['step'], batch_size / line['images_per_second']))
        quiet = not evaluated
    return times


def trend(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The line through the means of ten parts of the values after the warm-up.

    Neighbouring values are correlated, but the means of the parts hardly are: an error
    computed from the values themselves would be far too small.

    Args:
      x: position of each value, rising, [n].
      y: the values, [n].

    Returns:
      `mean`; `change`, the rise of the line over the values as a share of the mean;
      `error`, its standard error; and `significant`, at 95%.
    """
    kept = x >= x[0] + _WARM_UP * (x[-1] - x[0])
    mean = float(y[kept].mean())
    x, y = (
        np.array([block.mean() for block in np.array_split(values[kept], _BLOCKS)])
        for values in (x, y)
    )
    line = stats.linregress(x, y)
    share = (x[-1] - x[0]) / mean
    change, error = line.slope * share, line.stderr * share
    return {
        'mean': mean,
        'change': float(change),
        'error': float(error),
        'significant': bool(abs(change) > stats.t.ppf(0.975, _BLOCKS - 2) * error),
    }


def plot(curves: dict[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Draws (x, y) of each measure as a PNG, with the warm-up in grey."""
    # Imported here, because it is not in the extra `test` and no test draws.
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(12, 3), layout='constrained')
    for axis, (name, (x, y)) in zip(axes, curves.items(), strict=True):
        axis.plot(x, y, linewidth=0.7)
        axis.axvspan(x[0], x[0] + _WARM_UP * (x[-1] - x[0]), color='0.93')
        axis.set(title=name, xlabel='step' if 'step' in name else 'seconds')
        axis.set_ylim(bottom=0)
    figure.savefig(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=30.0)
    parser.add_argument('--plot', type=Path, help='default: soak.png, with the record')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        workdir = Path(directory) / 'run'
        looks, status = watch(workdir, 60 * options.minutes)
        steps = step_times(workdir / _STAGE, batch_size=8)
    if status != STOPPED or len(steps) < 2 * _BLOCKS:
        print(f'The training ended with status {status} after {len(steps)} windows.')
        return 1
    seconds, memory, files = np.array(looks).T
    curves = {
        'memory, MiB': (seconds, memory),
        'open files': (seconds, files),
        'seconds a step': tuple(np.array(steps).T),
    }
    trends = {name: trend(x, y) for name, (x, y) in curves.items()}
    columns = ('mean', 'change', 'standard error', 'significant at 95%')
    rows = [
        (
            name,
            (
                f'{found["mean"]:.4g}',
                f'{found["change"]:+.2%}',
                f'{found["error"]:.2%}',
                'yes' if found['significant'] else 'no',
            ),
        )
        for name, found in trends.items()
    ]
    print(markdown(columns, rows))
    plot(curves, options.plot or results_directory() / 'soak.png')
    record = {'minutes': options.minutes, 'steps': int(steps[-1][0]), 'trends': trends}
    write_record('soak', record)
    return 0


if __name__ == '__main__':
    sys.exit(main())
