"""Turns a folder of faces into a data set.

    python -m sicnn_jax.data.prepare --source=lfw/images --out=records/lfw \\
        --landmarks=lfw/landmarks.txt --test_identities=0.1

The source has one folder an identity with images in it. With a landmarks file each
face is brought to the template of five points by one warp of its original pixels;
without, the middle of the image is cropped and resized. The identities of the test
split are not in the training split. What was skipped and why is in `report.json`.
"""

import argparse
import collections
import dataclasses
import functools
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import numpy as np

from sicnn_jax.data import align, records, sources

_REPORT = 'report.json'


def prepare(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    landmarks: str | os.PathLike | None = None,
    test_identities: int | float = 0,
    test_list: str | os.PathLike | None = None,
    min_images: int = 1,
    min_size: int = 0,
    encoding: str = 'png',
    overwrite: bool = False,
    seed: int = 0,
    name: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Aligns the faces of a folder and writes them as a data set.

    Training faces are written in random order, so that those of one identity are
    spread over all shards; test faces in the order of their keys, which are paths
    relative to `source`.

    Args:
      source: a directory with one folder an identity.
      out: the directory of the data set.
      landmarks: a file that `align.read_landmarks` reads, paths relative to `source`.
      test_identities: how many identities, chosen at random, go to the split `test`:
        a fraction if below 1, else a number.
      test_list: instead, a file with their names, one a line.
      min_images: leave out identities with fewer usable images; those of `test_list`
        stay.
      min_size: leave out images whose shorter side has fewer pixels.
      encoding: `png` or `jpeg`.
      overwrite: replace what is in `out`.
      seed: of the choice of test identities and the order of training faces.
      name: what `source` of each record says; by default the name of the folder.
      progress: called with the number of images done and that of all.

    Returns:
      The report, as in `report.json`: settings; identities and images of each split;
      `skipped_by_reason`, counts; `skipped`, a list of {'file', 'reason'}.

    Raises:
      DatasetError: source or landmarks are missing or unusable, `out` holds something
        and `overwrite` is not set, or no face remains.
    """
    source, out = pathlib.Path(source), pathlib.Path(out)
    _check_out(out, overwrite)
    if encoding not in records.ENCODINGS:
        raise records.DatasetError(
            f'encoding is {encoding!r}; it must be one of {records.ENCODINGS}.'
        )
    files = sources.folder_source(source)
    points = None if landmarks is None else align.read_landmarks(landmarks)
    _check_landmarks(points, files, landmarks, source)
    listed = _read_test_list(test_list, files, source)
    if test_list is not None and test_identities:
        raise records.DatasetError(
            'Both test_identities and test_list are set; give one of them.'
        )

    convert = functools.partial(
        _convert, source=source, landmarks=points, min_size=min_size, encoding=encoding
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    # Which faces to keep, and their order, is known when all have been read: until
    # then they wait in a file without a name, which goes away by itself.
    with tempfile.TemporaryFile(dir=out.parent) as spool:
        kept, skipped = _convert_all(convert, files, spool, progress)
        kept, rare = _drop_rare(kept, min_images, listed)
        skipped = sorted([*skipped, *rare], key=lambda entry: entry['file'])
        if not kept:
            raise records.DatasetError(_nothing_left(source, skipped))
        rng = np.random.default_rng(seed)
        splits = _split(kept, listed, test_identities, rng)
        info = records.write_dataset(
            out,
            {
                split: _faces(spool, entries, name or source.resolve().name)
                for split, entries in splits.items()
            },
            alignment=_describe_alignment(points),
            encoding=encoding,
            overwrite=overwrite,
        )
    report = {
        'source': os.fspath(source.resolve()),
        'images': len(files),
        'landmarks': landmarks and os.fspath(pathlib.Path(landmarks).resolve()),
        'encoding': encoding,
        'min_images': min_images,
        'min_size': min_size,
        'seed': seed,
        'splits': {
            split: {'identities': found.num_identities, 'images': found.num_examples}
            for split, found in info.splits.items()
        },
        'skipped_by_reason': dict(_count_reasons(skipped)),
        'skipped': skipped,
    }
    _write_report(out, report)
    return report


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code, 2 when the data set cannot be made."""
    arguments = vars(_parser().parse_args(argv))
    started = time.monotonic()
    try:
        report = prepare(**arguments, progress=_ProgressLine())
    except records.DatasetError as error:
        print(f'\nprepare: {error}', file=sys.stderr)
        return 2
    print(_summary(report, arguments['out'], time.monotonic() - started))
    return 0


@dataclasses.dataclass(frozen=True)
class _Kept:
    """A converted face and where in the spool its bytes are."""

    file: str
    identity: str
    offset: int
    size: int


class _ProgressLine:
    """Images a second and the time left, on one line of a terminal."""

    def __init__(self):
        self._started = time.monotonic()
        self._shown = self._started
        self._interval = 0.5 if sys.stderr.isatty() else 10
        self._end = '\r' if sys.stderr.isatty() else '\n'

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._shown < self._interval and done < total:
            return
        self._shown = now
        rate = done / max(now - self._started, 1e-6)
        left = (total - done) / max(rate, 1e-6)
        print(
            f'{done:,} of {total:,} images, {rate:,.0f} a second, {left:,.0f} s left  ',
            end=self._end if done < total else '\n',
            file=sys.stderr,
            flush=True,
        )


def _parser():
    parser = argparse.ArgumentParser(
        prog='python -m sicnn_jax.data.prepare',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--source', required=True, metavar='DIR', help='one folder an identity')
    add('--out', required=True, metavar='DIR', help='directory of the data set')
    add(
        '--landmarks',
        metavar='FILE',
        help='a line an image: path relative to the source, then x and y of left eye, '
        'right eye, nose, left and right mouth corner; images without are skipped',
    )
    test = parser.add_mutually_exclusive_group()
    test.add_argument(
        '--test_identities',
        type=_fraction_or_count,
        default=0,
        metavar='N',
        help='identities for the split `test`, chosen at random: a fraction (0.1) or '
        'a number (50); 0 for none',
    )
    test.add_argument(
        '--test_list', metavar='FILE', help='their names instead, one a line'
    )
    add(
        '--min_images',
        type=int,
        default=1,
        metavar='K',
        help='skip identities with fewer images, except those of --test_list '
        '(default: %(default)s)',
    )
    add(
        '--min_size',
        type=int,
        default=0,
        metavar='PIXELS',
        help='skip images whose shorter side is below that (default: %(default)s)',
    )
    add(
        '--encoding',
        choices=records.ENCODINGS,
        default='png',
        help='png is exact, some 18 KB a face; jpeg (quality 95) some 6 KB '
        '(default: %(default)s)',
    )
    add('--overwrite', action='store_true', help='replace the data set in --out')
    add(
        '--seed',
        type=int,
        default=0,
        help='of the choice of test identities and of the order of training faces '
        '(default: %(default)s)',
    )
    add(
        '--name',
        help='what the field `source` of each record says (default: the name of the '
        'source folder)',
    )
    return parser


def _fraction_or_count(text: str) -> int | float:
    value = float(text) if '.' in text else int(text)
    if value < 0 or (isinstance(value, float) and value >= 1):
        raise argparse.ArgumentTypeError(
            f'{text!r} is neither a fraction between 0 and 1 nor a number'
        )
    return value


def _check_out(out, overwrite):
    if out.exists() and not out.is_dir():
        raise records.DatasetError(f'{out} is a file; expected a directory.')
    # Hidden is what an interrupted run may have left.
    found = out.exists() and any(
        not path.name.startswith('.') for path in out.iterdir()
    )
    if found and not overwrite:
        raise records.DatasetError(
            f'{out} is not empty; choose another directory, or --overwrite it.'
        )


def _check_landmarks(points, files, path, source):
    if points is not None and not any(file in points for file, _ in files):
        example = next(iter(points), 'nothing')
        raise records.DatasetError(
            f'{path} has landmarks for none of the images of {source}: it has '
            f'{example}, the images are such as {files[0][0]}. Paths must be relative '
            'to the source.'
        )


def _read_test_list(path, files, source):
    if path is None:
        return frozenset()
    try:
        text = pathlib.Path(path).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise records.DatasetError(f'{path} cannot be read: {error}') from error
    names = {line.strip() for line in text.splitlines() if line.strip()}
    if not names:
        raise records.DatasetError(f'{path} is empty; expected one identity a line.')
    unknown = sorted(names - {identity for _, identity in files})
    if unknown:
        raise records.DatasetError(
            f'{path} names {len(unknown)} identities without images in {source}, such '
            f'as {unknown[0]!r}.'
        )
    return frozenset(names)


def _convert(item, *, source, landmarks, min_size, encoding):
    """The encoded face of an image, or why there is none: (bytes, reason)."""
    file, _ = item
    if landmarks is not None and file not in landmarks:
        return None, 'no landmarks'
    try:
        image = sources.load_image(source / file)
    except records.DatasetError as error:
        return None, f'unreadable: {error}'
    height, width = image.shape[:2]
    if min(height, width) < min_size:
        return None, f'too small: {height}×{width} (height×width)'
    if landmarks is None:
        return records.encode_image(align.center_crop(image), encoding), None
    try:
        face = align.align_face(image, landmarks[file])
    except records.DatasetError as error:
        return None, f'impossible landmarks: {error}'
    return records.encode_image(face, encoding), None


def _convert_all(
    convert: Callable, files: list[tuple[str, str]], spool: IO[bytes], progress
) -> tuple[list[_Kept], list[dict[str, str]]]:
    kept, skipped, offset = [], [], 0
    converted = records.ordered_map(convert, files, workers=records.num_cpus())
    for i, ((file, identity), (encoded, reason)) in enumerate(
        zip(files, converted, strict=True)
    ):
        if reason is None:
            spool.write(encoded)
            kept.append(_Kept(file, identity, offset, len(encoded)))
            offset += len(encoded)
        else:
            skipped.append({'file': file, 'reason': reason})
        progress(i + 1, len(files))
    return kept, skipped


def _drop_rare(kept, min_images, listed):
    counts = collections.Counter(face.identity for face in kept)
    rare = {name for name, n in counts.items() if n < min_images and name not in listed}
    reasons = [
        {
            'file': face.file,
            'reason': f'identity has too few images: {counts[face.identity]} of '
            f'{min_images}',
        }
        for face in kept
        if face.identity in rare
    ]
    return [face for face in kept if face.identity not in rare], reasons


def _split(kept, listed, test_identities, rng):
    names = sorted({face.identity for face in kept})
    test = listed or set(_choose(names, test_identities, rng))
    train = [face for face in kept if face.identity not in test]
    splits = {
        'train': [train[i] for i in rng.permutation(len(train))],
        'test': [face for face in kept if face.identity in test],
    }
    return {name: faces for name, faces in splits.items() if faces}


def _choose(names, test_identities, rng):
    if not test_identities:
        return []
    count = test_identities
    if test_identities < 1:
        count = max(1, round(test_identities * len(names)))
    if not 0 < count < len(names):
        raise records.DatasetError(
            f'test_identities is {test_identities}, which leaves no identity for '
            f'training: there are {len(names)}.'
        )
    return [names[i] for i in rng.permutation(len(names))[:count]]


def _faces(
    spool: IO[bytes], kept: Iterable[_Kept], source_name: str
) -> Iterator[records.Face]:
    for face in kept:
        spool.seek(face.offset)
        yield records.Face(
            image=spool.read(face.size),
            name=face.identity,
            key=face.file,
            source=source_name,
        )


def _describe_alignment(landmarks):
    if landmarks is None:
        return {'method': 'center_crop'}
    return {
        'method': 'similarity',
        'template': [list(point) for point in align.TEMPLATE],
    }


def _nothing_left(source, skipped):
    reasons = ', '.join(f'{n} {reason}' for reason, n in _count_reasons(skipped))
    return f'None of the images of {source} can be used: {reasons}.'


def _count_reasons(skipped):
    return collections.Counter(
        entry['reason'].split(':')[0] for entry in skipped
    ).most_common()


def _write_report(out, report):
    staged = out / f'.{_REPORT}'
    staged.write_text(
        json.dumps(report, indent=1, ensure_ascii=False), encoding='utf-8'
    )
    staged.replace(out / _REPORT)


def _summary(report, out, seconds):
    lines = [
        f'{name}: {split["images"]:,} images of {split["identities"]:,} identities'
        for name, split in report['splits'].items()
    ]
    lines += [
        f'skipped: {n:,} {reason}' for reason, n in report['skipped_by_reason'].items()
    ]
    lines.append(f'{out} written in {seconds:.0f} s; details in {_REPORT} there.')
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())
