"""Fills the disk while a run trains, and resumes it: is the end as if nothing happened?

    python -m benchmarks.drills.full_disk --fills=12

The drill trains the three stages at tiny shapes once without disturbance. Then it
trains again on a file system of a few MiB, which it fills at random steps except for a
random rest, from nothing to the size of two checkpoints. Each time, the run must end
with a one-line error that names its directory, or continue. If it ended, the same
command is given once more while the disk is still full, and must do no harm. Then space
is freed and the same command is given again: it must continue from the newest
checkpoint, and none may be damaged. At the end, networks, optimiser states, metrics,
the table and the names of all files are compared, bit for bit. The command exits with 1
if anything is wrong.

The file system is a tmpfs that only this program sees: it starts itself again in its
own mount and user namespaces (`unshare` of util-linux). It needs Linux, and root or a
system that lets users make namespaces.
"""

import argparse
import collections
import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.drills import drilling
from benchmarks.measuring import write_record
from sicnn_jax.main import STOPPED
from tests import tiny_training

# Set in the process that has its own namespaces.
_INSIDE = 'SICNN_FULL_DISK_INSIDE'
_NAMESPACES = ('unshare', '--user', '--map-root-user', '--mount')
_SIZE = 16 * 2**20
_LIMIT = 300
_CONTINUES = re.compile(r'^\[(\w+)\] continues at step (\d+)', re.MULTILINE)


class Ran(NamedTuple):
    """A run that ended: its exit status and output."""

    code: int
    text: str


class Disk:
    """A file system, and a file that fills it."""

    def __init__(self, directory: Path):
        subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', f'size={_SIZE}', 'tmpfs', directory],
            check=True,
        )
        self.directory = directory
        self._ballast = directory / 'ballast'

    def fill(self, rest: int) -> None:
        """Fills the disk except for this many bytes."""
        block = bytes(2**16)
        with self._ballast.open('ab', buffering=0) as file:
            with contextlib.suppress(OSError):
                while file.write(block) == len(block):
                    pass
            file.truncate(max(0, file.tell() - rest))

    def free(self) -> None:
        """Removes the file that filled it."""
        self._ballast.unlink(missing_ok=True)


def run(workdir: Path, steps: int, at: str | None = None, then=lambda: None) -> Ran:
    """Runs the command; calls `then` after the line that `at` matches.

    A run that takes longer than the limit is killed. A run that somebody else stops is
    continued, since they may have meant another training.
    """
    process = drilling.start(
        tiny_training.command(workdir, tiny_training.fields(steps)), 2
    )
    lines = []
    # Otherwise, the drill would wait forever for a run that writes no line.
    limit = threading.Timer(_LIMIT, process.kill)
    limit.start()
    with process.stdout:
        for line in process.stdout:
            lines.append(line)
            if at and re.match(at, line):
                at = None
                then()
    ran = Ran(process.wait(), ''.join(lines))
    limit.cancel()
    if ran.code != STOPPED:
        return ran
    rest = run(workdir, steps, at, then)
    return Ran(rest.code, ran.text + rest.text)


def problems(ran: Ran, workdir: Path, newest: dict[str, int]) -> list[str]:
    """The faults of a run that met a full disk, or came after one.

    Args:
      ran: the run.
      workdir: its directory.
      newest: step of each stage's newest checkpoint before the run.
    """
    found = []
    if 'Damaged' in ran.text:
        found.append('a checkpoint was damaged')
    for stage, step in _CONTINUES.findall(ran.text):
        if int(step) < newest.get(stage, 0):
            found.append(f'{stage}: continued at {step}, not at {newest[stage]}')
    if ran.code:
        # TensorStore's threads may print errors before it.
        last = ran.text.rstrip().rpartition('\n')[2]
        if ran.code != 1:
            found.append(f'the exit status is {ran.code}')
        if not (last.startswith('Error: ') and str(workdir) in last):
            found.append('the last line is not an error that names the directory')
    return found


def newest(workdir: Path) -> dict[str, int]:
    """Step of the newest checkpoint by stage."""
    found = {}
    for path in workdir.glob('*/last/*'):
        if path.name.isdecimal():
            stage = path.parent.parent.name
            found[stage] = max(found.get(stage, 0), int(path.name))
    return found


def drill(disk: Disk, directory: Path, fills: int, steps: int, seed: int) -> dict:
    """The record of a drill; `problems` and `differences` are empty if all is well."""
    start = time.monotonic()
    expected = directory / 'undisturbed'
    ran = run(expected, steps)
    if ran.code:
        raise RuntimeError(f'It ended with {ran.code}:\n{ran.text}')
    largest = max(
        sum(path.stat().st_size for path in saved.rglob('*'))
        for saved in expected.glob('*/last/*')
    )
    rng = random.Random(seed)
    workdir = disk.directory / 'run'
    counts, found, differences = collections.Counter(), [], []
    for number in range(1, fills + 1):
        ahead = [
            s for s in tiny_training.STAGES if not (workdir / s / 'final').exists()
        ]
        if not ahead:
            differences += drilling.differences(workdir, expected)
            shutil.rmtree(workdir)
            ahead = tiny_training.STAGES
        before = newest(workdir)
        stage = rng.choice(ahead)
        first = before.get(stage, 0) + 2
        # The last step is likelier: after its line, a stage writes its results.
        step = rng.choice([*range(first, steps, 2), steps, steps])
        rest = rng.choice([0, rng.randrange(largest), rng.randrange(2 * largest)])
        at = rf'^\[{stage}\] {step}/'
        ran = run(workdir, steps, at, lambda rest=rest: disk.fill(rest))
        wrong = problems(ran, workdir, before)
        counts['ended' if ran.code else 'went on'] += 1
        if ran.code:
            before = newest(workdir)
            again = run(workdir, steps)
            counts['ended again'] += bool(again.code)
            wrong += [f'again: {w}' for w in problems(again, workdir, before)]
            ran = Ran(ran.code, ran.text + again.text)
        print(f'fill {number}: {at}, {rest} bytes left, {ran.code}', flush=True)
        if wrong:
            print('\n'.join([*wrong, ran.text[-3000:]]), flush=True)
        found += [f'fill {number}: {problem}' for problem in wrong]
        disk.free()
        if number == fills or rng.random() < 0.5:
            before = newest(workdir)
            ran = run(workdir, steps)
            wrong = problems(ran, workdir, before)
            if ran.code:
                wrong.append(f'it ended with {ran.code} although there was space')
            found += [f'after fill {number}: {problem}' for problem in wrong]
    differences += drilling.differences(workdir, expected)
    return {
        'fills': fills,
        **counts,
        'steps': steps,
        'seed': seed,
        'bytes_of_a_checkpoint': largest,
        'problems': found,
        'differences': differences,
        'seconds': round(time.monotonic() - start),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--fills', type=int, default=12)
    parser.add_argument('--steps', type=int, default=20, help='of each stage')
    parser.add_argument('--seed', type=int, default=0)
    arguments = parser.parse_args()
    if _INSIDE not in os.environ:
        return _start_inside()
    with (
        tempfile.TemporaryDirectory() as directory,
        tempfile.TemporaryDirectory() as place,
    ):
        disk = Disk(Path(place))
        try:
            record = drill(
                disk, Path(directory), arguments.fills, arguments.steps, arguments.seed
            )
        finally:
            subprocess.run(['umount', '--lazy', place], check=True)
    for key, value in record.items():
        print(f'{key}: {value}')
    write_record('full_disk', record)
    return int(bool(record['problems'] or record['differences']))


def _start_inside():
    """Starts this program again in namespaces where it may mount a file system."""
    if not shutil.which(_NAMESPACES[0]):
        sys.exit('Error: there is no `unshare` (util-linux, on Linux).')
    if subprocess.run([*_NAMESPACES, 'true'], capture_output=True).returncode:
        sys.exit(
            'Error: cannot mount a file system of a few MiB, as namespaces are not '
            'allowed here. Run this as root, or where users may make them (sysctl '
            'kernel.unprivileged_userns_clone, user.max_user_namespaces).'
        )
    command = [sys.executable, '-m', 'benchmarks.drills.full_disk', *sys.argv[1:]]
    return subprocess.run(
        [*_NAMESPACES, *command], env=os.environ | {_INSIDE: '1'}
    ).returncode


if __name__ == '__main__':
    sys.exit(main())
