"""Several processes train as one: is the result the same, and what if one is lost?

    python -m benchmarks.drills.hosts_drill --processes=2,4

The drill runs on this machine, over loopback, with four CPU devices in all. For each
number of processes, it trains the three stages at tiny shapes and compares them with
the run of one process at the same global batch. Then it kills one process (SIGKILL),
measures the seconds until the others have ended by themselves, and starts all again. In
another run it asks one process to stop (SIGTERM), and starts all again. An interrupted
run must end bit for bit like an uninterrupted one. The command exits with 1 if anything
is wrong.
"""

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.drills import drilling
from benchmarks.measuring import write_record
from sicnn_jax.main import STOPPED
from tests import tiny_training

_DEVICES = 4
# Seconds within which the others must have ended.
_LIMIT = 60
# One process sums in another order and so rounds differently; Adam enlarges the
# differences where a gradient is nearly zero.
_ROUNDING = 1e-3
_INTERRUPTED_AT = r'\[hallucination\] \d+/'


def run(
    workdir: Path, processes: int, steps: int, interrupt: signal.Signals | None = None
) -> tuple[int, float]:
    """Runs the stages in several processes.

    Args:
      workdir: of the run.
      processes: their number.
      steps: of each stage.
      interrupt: signal to send to the last process while stage 2 trains.

    Returns:
      Exit status, and the seconds since the interruption, or since the start.
    """
    launcher = drilling.start(
        [
            sys.executable,
            str(tiny_training.ROOT / 'launch' / 'local_multiprocess.py'),
            f'--processes={processes}',
            f'--grace={2 * _LIMIT}',
            '--',
            *tiny_training.command(workdir, tiny_training.fields(steps)),
        ],
        _DEVICES // processes,
    )
    start, lines, last = time.monotonic(), [], None
    with launcher.stdout:
        for line in launcher.stdout:
            lines.append(line)
            found = re.match(r'Process \d+ is PID (\d+)', line)
            last = int(found.group(1)) if found else last
            if interrupt is not None and re.search(_INTERRUPTED_AT, line):
                os.kill(last, interrupt)
                start, interrupt = time.monotonic(), None
    code = launcher.wait()
    if code not in (0, STOPPED, 128 + signal.SIGKILL):
        print(''.join(lines[-20:]))
    return code, round(time.monotonic() - start, 1)


def drill(directory: Path, processes: int, steps: int) -> dict:
    """The record for a number of processes; `directory/1` is the run of one process."""
    whole = directory / str(processes)
    code, seconds = run(whole, processes, steps)
    record = {
        'processes': processes,
        'status': code,
        'seconds': seconds,
        'largest_difference': {
            stage: drilling.largest_difference(whole, directory / '1', stage)
            for stage in tiny_training.STAGES
        },
    }
    for name, number in (('killed', signal.SIGKILL), ('stopped', signal.SIGTERM)):
        workdir = directory / f'{processes}_{name}'
        code, seconds = run(workdir, processes, steps, number)
        again, _ = run(workdir, processes, steps)
        record[name] = {
            'status': code,
            'seconds_until_all_ended': seconds,
            'status_of_the_next_start': again,
            'differences': list(drilling.differences(workdir, whole)),
        }
        print(f'{processes} processes, {name}: {record[name]}', flush=True)
    return record


def is_right(record: dict) -> bool:
    """Whether the record shows no fault."""
    killed, stopped = record['killed'], record['stopped']
    return (
        record['status'] == 0
        and max(record['largest_difference'].values()) < _ROUNDING
        and killed['status'] == 128 + signal.SIGKILL
        and killed['seconds_until_all_ended'] < _LIMIT
        and stopped['status'] == STOPPED
        and all(
            one['status_of_the_next_start'] == 0 and not one['differences']
            for one in (killed, stopped)
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--processes', default='2,4', help='divisors of 4')
    parser.add_argument('--steps', type=int, default=40, help='of each stage')
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.processes.split(',')]
    if any(count < 1 or _DEVICES % count for count in counts):
        parser.error(f'--processes={arguments.processes}: expected divisors of 4.')
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        run(directory / '1', 1, arguments.steps)
        records = [drill(directory, count, arguments.steps) for count in counts]
    for record in records:
        print(record)
    write_record('hosts_drill', {'steps': arguments.steps, 'runs': records})
    return int(not all(map(is_right, records)))


if __name__ == '__main__':
    sys.exit(main())
