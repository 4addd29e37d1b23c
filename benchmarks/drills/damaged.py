"""Damaged photographs among good ones: does `prepare` name them all and use none?

    python -m benchmarks.drills.damaged --damaged=2000 --good=200

The drill makes the photographs in a temporary folder, prepares a data set and prints a
table by kind of damage. It exits with 1 if a damaged photograph was used or not
reported, or a good one was not used.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

from tests.data.damaged_photographs import is_right, run


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--damaged', type=int, default=2000)
    parser.add_argument('--good', type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        started = time.monotonic()
        result = run(pathlib.Path(directory), arguments.damaged, arguments.good)
        seconds = time.monotonic() - started
    print('| kind | made | used | reported | reasons | right |')
    print('| --- | ---: | ---: | ---: | --- | --- |')
    for kind, row in sorted(result.items()):
        reasons = ', '.join(f'{n} {reason}' for reason, n in row['reasons'].items())
        right = 'yes' if is_right(kind, row) else '**no**'
        print(
            f'| {kind} | {row["made"]} | {row["used"]} | {row["reported"]} | '
            f'{reasons} | {right} |'
        )
    print(f'{seconds:.0f} s with {os.cpu_count()} processors')
    return 0 if all(is_right(*item) for item in result.items()) else 1


if __name__ == '__main__':
    sys.exit(main())
