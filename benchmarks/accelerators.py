"""Measures on an accelerator what docs/performance.md leaves open, in ten minutes.

    python -m benchmarks.accelerators --dry_run
    python -m benchmarks.accelerators

The command runs other benchmarks, the most important first. Each may use the time that
is left; one that takes longer is ended, and the records that it has written stay. The
command needs neither TensorFlow nor data. Without PyTorch, it skips the comparisons
with PyTorch.
"""

import argparse
import dataclasses
import importlib.util
import sys
import time

from benchmarks.all import run
from benchmarks.measuring import markdown


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A benchmark as it is run on an accelerator.

    Attributes:
      name: its name in `benchmarks.all.commands`.
      arguments: its command-line arguments.
      tells: what its record says.
      package: a package that it needs and the project does not, or ''.
    """

    name: str
    arguments: tuple[str, ...]
    tells: str
    package: str = ''

    @property
    def title(self) -> str:
        """Title of its row: the command without `python -m benchmarks.`."""
        return ' '.join((self.name, *self.arguments))


MEASUREMENTS = (
    Measurement(
        'speed.schedule',
        ('--iterations=200',),
        "bfloat16 against the matmul peak; hours for the paper's whole schedule",
    ),
    Measurement(
        'speed.against_pytorch',
        ('--dtype=bfloat16', '--batch=128', '--works=cnnh_update,cnnr_update'),
        'updates compared with PyTorch in automatic mixed precision',
        'torch',
    ),
    Measurement(
        'studies.fused',
        ('--config=di', '--rounds=3', '--steps=20'),
        "Algorithm 1 as one program and as two, at the paper's widths",
    ),
    Measurement(
        'speed.schedule',
        ('--iterations=200', '--steps_per_dispatch=10'),
        'time saved by several iterations in one program',
    ),
    Measurement(
        'speed.against_pytorch',
        ('--dtype=bfloat16', '--batch=128', '--works=di_iteration,cnnh_inference'),
        'Algorithm 1 and inference compared with PyTorch',
        'torch',
    ),
)
# A few faces in float32, to see that everything works, even on a CPU.
TINY = (
    Measurement(
        'speed.schedule', ('--iterations=1', '--dtype=float32', '--batch=2'), 'works'
    ),
    Measurement(
        'speed.against_pytorch',
        ('--batch=2', '--rounds=1', '--steps=1', '--works=cnnh_inference'),
        'works',
        'torch',
    ),
)


def measure(
    measurements: tuple[Measurement, ...], minutes: float
) -> list[tuple[str, list[str]]]:
    """Runs each in turn; returns rows with its outcome and its time."""
    end = time.monotonic() + 60 * minutes
    rows = []
    for each in measurements:
        if each.package and importlib.util.find_spec(each.package) is None:
            rows.append((each.title, [f'left out: needs {each.package}', '']))
            continue
        left = end - time.monotonic()
        if left <= 0:
            rows.append((each.title, ['left out: no time is left', '']))
            continue
        code, seconds = run(each.name, [*each.arguments], quick=False, limit=left)
        outcome = {0: 'ran', None: 'ended: no time was left'}.get(
            code, f'failed ({code})'
        )
        rows.append((each.title, [outcome, f'{seconds:.0f} s']))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--dry_run', action='store_true', help='only list them')
    parser.add_argument('--tiny', action='store_true', help='only see if they work')
    parser.add_argument('--minutes', type=float, default=10.0, help='for all together')
    options = parser.parse_args()
    measurements = TINY if options.tiny else MEASUREMENTS
    if options.dry_run:
        rows = [(each.title, [each.tells]) for each in measurements]
        print(markdown(('what it tells',), rows, 'benchmark'))
        return 0
    rows = measure(measurements, options.minutes)
    print('\n' + markdown(('outcome', 'time'), rows, 'benchmark'))
    return int(any(cells[0].startswith('failed') for _, cells in rows))


if __name__ == '__main__':
    sys.exit(main())
