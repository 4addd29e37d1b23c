"""Kills a run at random moments and resumes it: is the end as if nothing had happened?

    python -m benchmarks.drills.kill_drill --kills=30

The drill trains the three stages at tiny shapes once without interruption. Then it
trains again, kills the run (SIGKILL) at a random moment, starts it again with the same
command, and so on; if a run ends before all kills are done, another begins. A quarter
of the kills come while a run compiles and reads, the others after its first steps. At
the end, networks, optimiser states, metrics, the table and the names of all files are
compared, bit for bit. The command exits with 1 if anything differs.
"""

import argparse
import collections
import contextlib
import random
import re
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.drills import drilling
from benchmarks.measuring import write_record
from tests import tiny_training

_BEGUN = r'^\[\w+\] (begins|continues)'
_STEPPED = r'^\[\w+\] \d+/'
_UNFINISHED = '*.orbax-checkpoint-tmp*'


def run_and_kill(
    workdir: Path, steps: int, seconds: float | None = None, first: str = 'begins'
) -> dict | None:
    """Runs the command and kills it some seconds after a line of its output.

    Args:
      workdir: of the run.
      steps: of each stage.
      seconds: after the line; None lets it end.
      first: regular expression that matches the line.

    Returns:
      The place of the kill: `stage` and `step` of the last line, and whether Orbax was
      `saving`; None if the run had ended by itself.

    Raises:
      RuntimeError: it ended with an error.
    """
    process = drilling.start(
        tiny_training.command(workdir, tiny_training.fields(steps)), 2
    )
    lines, timer = [], None

    def kill():
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)

    with process.stdout:
        for line in process.stdout:
            lines.append(line)
            if timer is None and seconds is not None and re.search(first, line):
                timer = threading.Timer(seconds, kill)
                timer.start()
    code = process.wait()
    if timer is not None:
        timer.cancel()
    if code == -signal.SIGKILL:
        saving = bool(list(workdir.rglob(_UNFINISHED)))
        return _last_place(lines) | {'saving': saving}
    if code:
        raise RuntimeError(f'It ended with {code}:\n{"".join(lines[-20:])}')
    return None


def drill(directory: Path, kills: int, steps: int, longest: float, seed: int) -> dict:
    """The record of a drill; `differences` is empty if all is well."""
    expected = directory / 'uninterrupted'
    start = time.monotonic()
    run_and_kill(expected, steps)
    print(f'Uninterrupted: {time.monotonic() - start:.0f} s', flush=True)
    rng = random.Random(seed)
    hits, found, runs = [], [], 0
    while len(hits) < kills:
        runs += 1
        workdir = directory / f'killed_{runs}'
        ended = False
        while len(hits) < kills and not ended:
            first = _BEGUN if rng.random() < 0.25 else _STEPPED
            hit = run_and_kill(workdir, steps, rng.uniform(0, longest), first)
            ended = hit is None
            if hit:
                hits.append(hit)
                print(f'kill {len(hits)}: {hit}', flush=True)
        if not ended:
            run_and_kill(workdir, steps)
        found += [f'run {runs}: {d}' for d in drilling.differences(workdir, expected)]
    return {
        'kills': len(hits),
        'runs': runs,
        'steps': steps,
        'seed': seed,
        'by_stage': dict(collections.Counter(hit['stage'] for hit in hits)),
        'while_saving': sum(hit['saving'] for hit in hits),
        'differences': found,
        'seconds': round(time.monotonic() - start),
    }


def _last_place(lines):
    """Stage and step from the last line that has them."""
    for line in reversed(lines):
        found = re.match(r'\[(\w+)\] (?:(\d+)/|continues at step (\d+)|begins)', line)
        if found:
            stage, step, continued = found.groups()
            return {'stage': stage, 'step': int(step or continued or 0)}
    return {'stage': 'none', 'step': 0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=30)
    parser.add_argument('--steps', type=int, default=60, help='of each stage')
    parser.add_argument(
        '--longest', type=float, default=4.0, help='the most seconds before a kill'
    )
    parser.add_argument('--seed', type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        record = drill(
            Path(directory),
            arguments.kills,
            arguments.steps,
            arguments.longest,
            arguments.seed,
        )
    for key, value in record.items():
        print(f'{key}: {value}')
    write_record('kill_drill', record)
    return int(bool(record['differences']))


if __name__ == '__main__':
    sys.exit(main())
