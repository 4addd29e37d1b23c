"""Reads damaged files and odd overrides: is each read correctly or properly refused?

    python -m benchmarks.drills.fuzz --target=records,recordio,bin,overrides \\
        --minutes=10

Each target takes inputs that hypothesis draws: valid files with bytes flipped, cut or
inserted, numbers overwritten, or parts of other files; pickles of arbitrary opcodes;
lists of `--config.FIELD=VALUE`. An input may be read, or refused by one of our errors.
Anything else is a finding: another error, a wrong result, more than `_PATIENCE`
seconds, or a process that dies. The command prints each finding once, with the smallest
input that shows it and the seed of its round, and exits with 1 if there are any.

Inputs are tried in a separate process, whose memory is limited.
"""

import argparse
import json
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import given, settings

from benchmarks.drills.fuzz_targets import targets
from benchmarks.measuring import earlier_record, versions, write_record

_ROUND = 250
# Seconds for one input.
_PATIENCE = 20
# Bytes in addition to the memory that a process uses when it begins.
_MEMORY = 4 * 2**30
_LONGEST = 2_000


class Tally:
    """The outcomes of inputs.

    Attributes:
      counts: how many inputs were `tried`, `read` and `refused`.
      findings: by error and place, each with its smallest input and that one's seed.
    """

    def __init__(self):
        self.counts = {'tried': 0, 'read': 0, 'refused': 0}
        self.findings: dict[str, dict] = {}

    def count(self, what: str) -> None:
        self.counts['tried'] += 1
        self.counts[what] += 1

    def note(self, what: str, drawn: Any, seed: int) -> None:
        """Counts a finding."""
        self.counts['tried'] += 1
        shown = repr(drawn)[:_LONGEST]
        self._find(what, {'count': 1, 'input': shown, 'seed': seed})

    def add(self, other: dict) -> None:
        """Adds the counts and findings of another process."""
        for what, count in other['counts'].items():
            self.counts[what] += count
        for what, found in other['findings'].items():
            self._find(what, found)

    def _find(self, what, found):
        """Keeps the smallest input of a finding."""
        known = self.findings.setdefault(what, found | {'count': 0})
        known['count'] += found['count']
        if len(found['input']) < len(known['input']):
            known |= {'input': found['input'], 'seed': found['seed']}


class _Slow(BaseException):
    """An input takes too long."""


def try_inputs(target, seed: int, count: int, tally: Tally, before=lambda drawn: None):
    """Tries a number of inputs of a seed.

    Args:
      target: of `fuzz_targets`.
      seed: determines the inputs.
      count: number of inputs.
      tally: gets the outcomes.
      before: called with each input.
    """

    @hypothesis.seed(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @given(target.inputs)
    def one(drawn):
        before(drawn)
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
        try:
            target.attempt(drawn)
        except target.refusals:
            tally.count('refused')
        except (Exception, SystemExit, _Slow) as error:
            tally.note(_described(error), drawn, seed)
        else:
            tally.count('read')
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    usual = signal.signal(signal.SIGALRM, _too_slow)
    try:
        one()
    finally:
        signal.signal(signal.SIGALRM, usual)


def _too_slow(number, frame):
    raise _Slow(f'more than {_PATIENCE} s')


def _described(error):
    """The error, and the last of our functions that it passed through."""
    places = [
        f'{Path(frame.filename).name}:{frame.name}'
        for frame in traceback.extract_tb(error.__traceback__)
        if 'sicnn_jax' in frame.filename
    ]
    where = places[-1] if places else 'fuzz_targets'
    return f'{type(error).__name__} in {where}: {str(error)[:100]}'


def _work(name, directory, seed, until):
    """Tries rounds of inputs until the time is over, in a separate process.

    It writes its current input to the directory, and its tally after each round.
    """
    data = directory / 'data'
    data.mkdir()
    target = targets()[name](data)
    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY,) * 2)
    tally = Tally()
    current = directory / 'current'
    while time.time() < until:
        try_inputs(
            target,
            seed,
            _ROUND,
            tally,
            lambda drawn, seed=seed: current.write_bytes(pickle.dumps((seed, drawn))),
        )
        seed += 1
        unfinished = directory / 'tally.unfinished'
        unfinished.write_text(json.dumps(vars(tally)))
        unfinished.replace(directory / 'tally')


def fuzz(name: str, minutes: float, seed: int) -> dict:
    """Tries inputs of a target for some minutes.

    Returns:
      `tried`, `read`, `refused`, `findings`, `seconds`.
    """
    start = time.monotonic()
    until = time.time() + 60 * minutes
    tally = Tally()
    while time.time() < until:
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder)
            process = multiprocessing.get_context('spawn').Process(
                target=_work, args=(name, directory, seed, until)
            )
            process.start()
            process.join(until - time.time() + 10 * _PATIENCE)
            hung = process.is_alive()
            if hung:
                process.kill()
                process.join()
            if (directory / 'tally').exists():
                tally.add(json.loads((directory / 'tally').read_text()))
            if process.exitcode:
                what = 'it hung' if hung else f'it ended with {process.exitcode}'
                if not (directory / 'current').exists():
                    raise RuntimeError(f'{name}: {what} before any input.')
                seed, drawn = pickle.loads((directory / 'current').read_bytes())
                tally.note(what, drawn, seed)
                seed += 1
    return {
        **tally.counts,
        'findings': tally.findings,
        'seconds': round(time.monotonic() - start),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--target', default=','.join(targets()))
    parser.add_argument('--minutes', type=float, default=10.0, help='per target')
    parser.add_argument('--seed', type=int, default=0)
    arguments = parser.parse_args()
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    results = {}
    for name in arguments.target.split(','):
        found = fuzz(name, arguments.minutes, arguments.seed)
        results[name] = found | {'minutes': arguments.minutes, 'seed': arguments.seed}
        print(
            f'{name}: {found["tried"]} tried, {found["read"]} read, '
            f'{found["refused"]} refused, {len(found["findings"])} findings',
            flush=True,
        )
        for what, finding in found['findings'].items():
            print(f'  {what}\n    seed {finding["seed"]}, {finding["count"]} times:')
            print(f'    {finding["input"]}', flush=True)
    # Keeps the records of other targets.
    earlier = earlier_record('fuzz') or {'targets': {}}
    write_record(
        'fuzz',
        {
            'targets': earlier['targets'] | results,
            'versions': versions('hypothesis', 'ml-collections'),
        },
    )
    return int(any(found['findings'] for found in results.values()))


if __name__ == '__main__':
    sys.exit(main())
