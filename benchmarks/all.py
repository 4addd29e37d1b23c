"""Runs every benchmark, one after the other, and reports which of them ran.

    python -m benchmarks.all --quick
    python -m benchmarks.all --only=speed.reading,speed.preparing
    python -m benchmarks.all --list

A benchmark that fails does not stop the others; then the exit code is 1. With --quick,
each runs at a small size in a temporary directory, which also gets its records. This
shows that it works, but its figures mean nothing. Benchmarks of real photographs are
left out unless --images=DIR and --landmarks=FILE are given; those that need other files
of the user are always left out.
"""

import argparse
import ast
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import markdown

_HERE = Path(__file__).parent
_TINY_RUN = [
    '--config=configs/di.py:demo',
    *(
        f'--config.{stage}.steps=2'
        for stage in ('recognition', 'hallucination', 'sr_only', 'domain_integrated')
    ),
    '--config.data.identities=20',
    '--config.data.images_per_identity=4',
    '--config.data.test_identities=8',
    '--config.data.test_images_per_identity=4',
    '--config.evaluation.faces=16',
    '--config.evaluation.pairs=20',
    '--config.evaluation.final_pairs=40',
]

# Arguments for the small size; a command that is not listed runs with its defaults.
QUICK = {
    'accelerators': ['--dry_run'],
    'drills.damaged': ['--damaged=200', '--good=20'],
    'drills.full_disk': ['--fills=2'],
    'drills.fuzz': ['--minutes=0.2'],
    'drills.precision': ['--steps=40'],
    'drills.soak': ['--minutes=1'],
    'fixtures': ['--out=parity.npz'],
    'speed.against_pytorch': ['--batch=2', '--rounds=1', '--steps=1'],
    'speed.convolutions': ['--batch=1', '--rounds=1'],
    'speed.detection': ['--limit=3'],
    'speed.full_width': ['--batch=1', '--steps=1'],
    'speed.growth': [
        '--batches=1,2',
        '--identities=1000',
        '--batch=1',
        '--sizes=7x6',
        '--steps=1',
    ],
    'speed.huge_pages': ['--rounds=1', '--steps=2'],
    'speed.inference': ['--batches=1,2', '--pieces=1', '--scales=8', '--rounds=1'],
    'speed.many_identities': ['--identities=1000', '--devices=1,2'],
    'speed.photographs': ['--count=8', '--rounds=1'],
    'speed.preparing': ['--images=64', '--rounds=1', '--sample=32'],
    'speed.reading': ['--images=1024', '--epochs=2'],
    'speed.schedule': ['--iterations=1', '--dtype=float32', '--batch=2'],
    'speed.start_up': ['--rounds=1'],
    'studies.alpha': ['--alphas=8', *_TINY_RUN],
    'studies.clipping': ['--steps=10', '--batch=4'],
    'studies.depthwise': ['--faces=1', '--rounds=1'],
    'studies.fused': ['--batch=8', '--rounds=1', '--steps=1'],
    'studies.seeds': ['--seeds=0,1', *_TINY_RUN],
    'studies.variations': ['--dry_run'],
}

# These take --images and --landmarks; the repository has no such files.
OF_PHOTOGRAPHS = {'speed.detection'}
# These take photographs without landmarks, shards of LFW, networks or finished runs.
OF_ONES_OWN = {
    'speed.mtcnn',
    'speed.time_to_quality',
    *(
        f'studies.{name}'
        for name in (
            'allocation',
            'distilled',
            'groups',
            'identity',
            'learning_curve',
            'which_is_sicnn',
            'widths',
        )
    ),
}
# This one runs other benchmarks.
_OF_OTHERS = {'accelerators'}


def commands() -> dict[str, str]:
    """First line of the docstring of every benchmark that is a command, by its name.

    Names are the part after `python -m benchmarks.`, such as `speed.reading`.
    """
    found = {}
    for path in sorted(_HERE.rglob('*.py')):
        text = path.read_text(encoding='utf-8')
        if "if __name__ == '__main__':" in text and path != Path(__file__):
            name = '.'.join(path.relative_to(_HERE).with_suffix('').parts)
            found[name] = ast.get_docstring(ast.parse(text)).splitlines()[0]
    return found


def run(
    name: str, extra: list[str], *, quick: bool, limit: float | None = None
) -> tuple[int | None, float]:
    """Runs a benchmark in its own process.

    Args:
      name: its name in `commands`.
      extra: its arguments, before those of the small size.
      quick: whether it runs at the small size, in a temporary directory.
      limit: seconds after which it is killed.

    Returns:
      Exit code, or None if it was killed at the limit, and seconds.
    """
    environment = dict(os.environ)
    paths = [str(_HERE.parent), environment.get('PYTHONPATH', '')]
    environment['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, '-m', f'benchmarks.{name}', *extra]
    with tempfile.TemporaryDirectory() as directory:
        where = _HERE.parent
        if quick:
            where = directory
            command += QUICK.get(name, [])
            environment['BENCHMARK_RESULTS'] = directory
        print(f'\n{" ".join(command[1:])}\n', flush=True)
        start = time.perf_counter()
        # In its own group, so that the processes that it starts can be killed with it.
        process = subprocess.Popen(
            command, cwd=where, env=environment, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            code = None
        return code, time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='only see if they work')
    parser.add_argument('--list', action='store_true', help='list all benchmarks')
    parser.add_argument('--only', help='NAME,…; default: all')
    parser.add_argument('--images', type=Path, help='folder of photographs')
    parser.add_argument('--landmarks', type=Path, help='their landmarks')
    arguments = parser.parse_args()
    known = commands()
    if arguments.list:
        width = max(map(len, known))
        print('\n'.join(f'{name:<{width}}  {line}' for name, line in known.items()))
        return 0
    chosen = [name for name in known if name not in _OF_OTHERS]
    if arguments.only:
        chosen = arguments.only.split(',')
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        parser.error(f'There is no {", ".join(unknown)}; see --list.')
    photographs = []
    if arguments.images and arguments.landmarks:
        photographs = [
            f'--images={arguments.images.resolve()}',
            f'--landmarks={arguments.landmarks.resolve()}',
        ]
    codes, rows = [], []
    for name in chosen:
        extra = photographs if name in OF_PHOTOGRAPHS else []
        if name in OF_ONES_OWN or (name in OF_PHOTOGRAPHS and not extra):
            rows.append((name, ["left out: needs the user's files", '']))
            continue
        code, seconds = run(name, extra, quick=arguments.quick)
        codes.append(code)
        outcome = f'failed ({code})' if code else 'ran'
        rows.append((name, [outcome, f'{seconds:.0f} s']))
    print('\n' + markdown(('outcome', 'time'), rows, 'benchmark'))
    return int(any(codes))


if __name__ == '__main__':
    sys.exit(main())
