"""One HTML page about a run: results and the paper's, faces, curves, speed, config.

    python -m sicnn_jax.report --workdir=runs/di-demo

The command writes `report.html` into the workdir: one file that requests nothing from
elsewhere. Sections that the run does not have yet are left out, with the reason.
"""

import sys
from collections.abc import Sequence

from sicnn_jax import command, paths
from sicnn_jax.reports.run_page import write_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = command.parser('report', __doc__)
    add = parser.add_argument
    add(
        '--workdir',
        required=True,
        type=command.path,
        help='workdir of a run, finished or not',
    )
    add('--out', type=command.path, help='file to write; default: WORKDIR/report.html')
    add('--faces', type=int, default=256, help='number of held-out faces')
    options = parser.parse_args(arguments)
    if options.faces < 1:
        parser.error(f'--faces is {options.faces}; expected at least 1.')
    out = options.out or options.workdir / 'report.html'

    def write():
        # Checked now, because faces are made and measured before writing.
        paths.check_writable(out.parent, 'give another --out=FILE')
        write_report(options.workdir, out, faces=options.faces)
        print(f'Written: {out}')

    return command.run(write)


if __name__ == '__main__':
    sys.exit(main())
