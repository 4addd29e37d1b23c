"""Turns photographs of people into a data set.

    python -m sicnn_jax.data.prepare --source=lfw/images --out=records/lfw \\
        --landmarks=lfw/landmarks.txt --test_identities=0.1

Each face is brought to the template of five points by one warp of its original pixels,
with the points of a landmarks file or of a detector (--detect); with neither, the
middle of the image is cropped and resized. The identities of the test split are not in
the training split, nor are copies of its photographs. `report.html` and `report.json`
say what was left out and why. The same command continues an interrupted run.
docs/data.md is the guide.
"""

import argparse
import dataclasses
import sys
import time
from typing import Self

from sicnn_jax import command
from sicnn_jax.data import folders, records
from sicnn_jax.data.preparing import convert, sources
from sicnn_jax.data.preparing.preparation import prepare
from sicnn_jax.data.preparing.settings import Settings
from sicnn_jax.reports import dataset_page

_SETTINGS = dataclasses.fields(Settings)
_DIR = {'type': command.path, 'metavar': 'DIR'}
_FILE = {'type': command.path, 'metavar': 'FILE'}


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run(_prepare, vars(_parser().parse_args(argv)), goes_on=True)


def _prepare(arguments):
    started = time.monotonic()
    settings = Settings(**{each.name: arguments.pop(each.name) for each in _SETTINGS})
    with _ProgressLine() as progress:
        result = prepare(settings=settings, **arguments, progress=progress)
    print(_summary(result, arguments['out'], time.monotonic() - started))


class _ProgressLine:
    """Images per second and the time left, on one line of a terminal."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._interval, self._end = (0.5, '\r') if sys.stderr.isatty() else (10.0, '\n')
        self._unended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # An error message would overwrite the line.
        if self._unended:
            print(file=sys.stderr)

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._started is None:
            # Work done by an interrupted run took no time in this one.
            self._started, self._done, self._shown = now, done, now
            return
        if now - self._shown < self._interval and done < total:
            return
        self._shown = now
        rate = (done - self._done) / max(now - self._started, 1e-6)
        left = (total - done) / max(rate, 1e-6)
        end = self._end if done < total else '\n'
        line = (
            f'{done:,} of {total:,} images, {rate:,.0f} a second, {left:,.0f} s left  '
        )
        print(line, end=end, file=sys.stderr, flush=True)
        self._unended = end == '\r'


def _parser():
    parser = command.parser(
        'data.prepare', __doc__, epilog=f'sources:\n{sources.CHOICES}'
    )
    # A flag that gives no default has the default of its setting.
    parser.set_defaults(**{each.name: each.default for each in _SETTINGS})
    _add_places(parser)
    _add_alignment(parser)
    _add_selection(parser)
    _add_degradation(parser)
    _add_running(parser)
    return parser


def _add_places(parser):
    add = parser.add_argument_group('from and to').add_argument
    add(
        '--source',
        required=True,
        type=command.path_or_name,
        help='where the photographs are: one of the sources below',
    )
    add('--out', required=True, **_DIR, help='directory to write the data set to')
    add('--overwrite', action='store_true', help='replace the data set in --out')
    add('--data_dir', metavar='DIR', help='where TFDS keeps its data sets')
    add(
        '--identity',
        metavar='FEATURE',
        help='the feature of a TFDS data set that identifies the person (default: the '
        f'first it has of {", ".join(sources.IDENTITY_FEATURES)})',
    )
    add(
        '--list_root',
        **_DIR,
        help='directory above all images of a list (default: that of the list)',
    )
    add(
        '--encoding',
        choices=records.ENCODINGS,
        help='png is exact, about 18 KB per face; jpeg (quality 95) about 6 KB',
    )
    add(
        '--name',
        help='value of the field `source` of each record (default: the name of the '
        'source)',
    )


def _add_alignment(parser):
    add = parser.add_argument_group('alignment').add_argument
    add(
        '--landmarks',
        **_FILE,
        help='file with one line per image: path relative to the source, then x and y '
        'of left eye, right eye, nose, left and right mouth corner; images without a '
        'line are skipped',
    )
    add('--detect', action='store_true', help='find faces and landmarks by MTCNN')
    add(
        '--rotations',
        action='store_true',
        help='with --detect, if no face is upright, find faces turned by 90° or 180°',
    )
    add(
        '--faces',
        choices=convert.FACES,
        help='with --detect, which of the faces found to keep',
    )
    add(
        '--min_size',
        type=int,
        metavar='PIXELS',
        help='skip images whose shorter side has fewer pixels',
    )
    add(
        '--min_height',
        type=float,
        metavar='PIXELS',
        help='skip faces with fewer rows of original pixels; with 112 none is enlarged',
    )


def _add_selection(parser):
    group = parser.add_argument_group('what stays, and where')
    add = group.add_argument
    test = group.add_mutually_exclusive_group()
    test.add_argument(
        '--test_identities',
        type=_fraction_or_count,
        metavar='N',
        help='identities for the split `test`, chosen at random: a fraction (0.1) or '
        'a number (50); 0 for none',
    )
    test.add_argument(
        '--test_list', **_FILE, help='file with their names instead, one per line'
    )
    add(
        '--min_images',
        type=int,
        metavar='K',
        help='skip identities with fewer images, except those of --test_list',
    )
    add(
        '--exclude',
        action='append',
        type=command.path,
        default=[],
        metavar='PATH',
        help='leave out of training the people whom a file names, one per line, or a '
        'data set that this command wrote, and copies of its faces; can be repeated',
    )
    add(
        '--duplicate_bits',
        type=int,
        metavar='N',
        help='training faces are copies of test faces if at most this many of the 256 '
        'bits of their fingerprints differ; -1 keeps copies',
    )
    add(
        '--seed',
        type=int,
        help='seed of the choice of test identities and of the order of training faces',
    )


def _add_degradation(parser):
    add = parser.add_argument_group('low resolution and back').add_argument
    add(
        '--degrade',
        type=int,
        choices=(4, 8),
        help='reduce the faces of a data set that this command wrote to 1/4 or 1/8, '
        'and enlarge them back to 112×96',
    )
    add('--degradation', choices=('bicubic', 'area'), help='how to reduce the faces')
    add(
        '--checkpoint',
        **_DIR,
        help='enlarge by the CNNH of a finished stage, such as '
        'runs/di/domain_integrated (default: by bicubic interpolation)',
    )


def _add_running(parser):
    add = parser.add_argument_group('running').add_argument
    add(
        '--workers',
        type=command.count,
        metavar='N',
        help='number of processes (default: one per processor)',
    )
    add(
        '--runner',
        metavar='beam:RUNNER',
        help='convert by Apache Beam instead, such as beam:DirectRunner; its workers '
        'must see the source and --out under the same paths',
    )


def _fraction_or_count(text: str) -> int | float:
    value = float(text) if '.' in text else int(text)
    if value < 0 or (isinstance(value, float) and value >= 1):
        raise argparse.ArgumentTypeError(
            f'{text!r} is neither a fraction between 0 and 1 nor a whole number'
        )
    return value


def _summary(result, out, seconds):
    lines = [
        f'{name}: {split["images"]:,} images of {split["identities"]:,} identities'
        for name, split in result['splits'].items()
    ]
    if result['identity']:
        lines.append(f'identities are those of the feature {result["identity"]!r}')
    upright = '' if result['rotations'] else f' ({convert.UPRIGHT})'
    lines += [
        f'skipped: {n:,} {reason}{upright if reason == convert.NO_FACE else ""}'
        for reason, n in result['skipped_by_reason'].items()
    ]
    passed_over = folders.in_words(result['passed_over'])
    lines.append(
        f'{out} written in {seconds:.0f} s{passed_over}; details in '
        f'{dataset_page.HTML} there.'
    )
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())
