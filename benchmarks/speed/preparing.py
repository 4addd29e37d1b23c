"""Images per second that `sicnn_jax.data.prepare` turns into shards, and its parts.

    python -m benchmarks.speed.preparing --images=2000 --rounds=3

The benchmark times `prepare` on all cores, in turn with landmarks (one warp to the
template) and without (crop and resize). It subtracts the start-up, measured as the time
for the photographs of one person, and reports it separately. It measures the parts one
image at a time on one core: reading and decoding the file, warping, fingerprint,
encoding the face, and writing encoded faces as a data set. The last column is the ratio
of their sum to the cores' time; the rest is waiting and contention between processes.

The photographs are JPEG files of 250×250 pixels, the size of LFW's, made from a few
hundred repeated procedural faces at LFW's scale; or those of --source=DIR with their
--landmarks=FILE. Files come from the page cache.
"""

import argparse
import functools
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measuring import append_record, in_turns, markdown
from benchmarks.speed.reading import render
from sicnn_jax.data import align, image_files, records, runtime, write_records
from sicnn_jax.data.preparing import convert, sources

_DISTINCT = 256
_PER_IDENTITY = 4
_SIDE = 250
# The scale of a face in LFW's photographs relative to the template.
_SCALE = 1.2
_JPEG_QUALITY = 90


def write_photographs(directory: Path, count: int) -> tuple[Path, Path]:
    """JPEG files of faces; returns their directory and a file of their landmarks."""
    photographs = [photograph(face) for face in render(min(count, _DISTINCT))]
    points = np.asarray(align.TEMPLATE) * _SCALE + _corner()
    numbers = ' '.join(f'{value:.2f}' for value in points.ravel())
    source, lines = directory / 'photographs', []
    for i in range(count):
        file = f'person_{i // _PER_IDENTITY:06d}/{i % _PER_IDENTITY}.jpg'
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        photographs[i % len(photographs)].save(source / file, quality=_JPEG_QUALITY)
        lines.append(f'{file} {numbers}\n')
    landmarks = directory / 'landmarks.txt'
    landmarks.write_text(''.join(lines))
    return source, landmarks


def photograph(face: np.ndarray) -> Image.Image:
    """A face in the middle of a picture, with its own enlargement around it."""
    face = Image.fromarray(face)
    picture = face.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    size = round(records.WIDTH * _SCALE), round(records.HEIGHT * _SCALE)
    picture.paste(
        face.resize(size, Image.Resampling.BICUBIC),
        tuple(_corner().astype(int).tolist()),
    )
    return picture


def _corner():
    return (_SIDE - np.array([records.WIDTH, records.HEIGHT]) * _SCALE) // 2


def prepare_all(source: Path, landmarks: Path | None, encoding: str) -> float:
    """Seconds of the command that makes a data set of a folder.

    Raises:
      CalledProcessError: the command failed; its message is on standard error.
    """
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, '-m', 'sicnn_jax.data.prepare']
        command += [f'--source={source}', f'--out={directory}/faces']
        command += [f'--encoding={encoding}']
        command += [f'--landmarks={landmarks}'] if landmarks else []
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


def parts(
    source: Path, landmarks: Path | None, encoding: str, count: int
) -> dict[str, float]:
    """Seconds per image of each part, on one core."""
    files = list(sources.open_source(source).keys[:count])
    points = None if landmarks is None else align.read_landmarks(landmarks)
    if points is not None:
        files = [file for file in files if file in points]
    read, images = _timed(
        image_files.load_image, [(os.fspath(source / file),) for file in files]
    )
    if points is None:
        warp, faces = _timed(align.center_crop, [(image,) for image in images])
    else:
        warp, faces = _timed(
            align.align_face,
            [(image, points[file]) for image, file in zip(images, files, strict=True)],
        )
    marking, _ = _timed(convert.fingerprint, [(face,) for face in faces])
    encode, encoded = _timed(records.encode_image, [(face, encoding) for face in faces])

    names = sorted({file.partition('/')[0] for file in files})

    def write(directory):
        split = (
            records.Face(image, file.partition('/')[0], file)
            for image, file in zip(encoded, files, strict=True)
        )
        write_records.write_dataset(
            directory,
            {'train': split},
            identities={'train': names},
            alignment=None,
            encoding=encoding,
        )

    # Twice, because the first call also does one-time work, such as importing
    # TensorFlow.
    for _ in range(2):
        with tempfile.TemporaryDirectory() as directory:
            written, _ = _timed(write, [(directory,)])
    return {
        'read and decode': read,
        'warp': warp,
        'fingerprint': marking,
        'encode': encode,
        'write': written / len(files),
    }


def _timed(function: Callable, arguments: list[tuple]) -> tuple[float, list]:
    """Mean seconds of the calls, and their results."""
    start = time.perf_counter()
    results = list(itertools.starmap(function, arguments))
    return (time.perf_counter() - start) / len(arguments), results


def measure(
    source: Path, landmarks: Path | None, encoding: str, rounds: int, sample: int
) -> list[dict]:
    """Records of both ways, in turn; without landmarks, of the crop alone."""
    ways = {'crop': None} | ({'landmarks': landmarks} if landmarks else {})
    opened = sources.open_source(source)
    person = opened.identities[0]
    count = len(opened.keys) - opened.identities.count(person)
    taken = {way: parts(source, file, encoding, sample) for way, file in ways.items()}
    with tempfile.TemporaryDirectory() as directory:
        few = Path(directory)
        (few / person).symlink_to(source.resolve() / person)
        timers = {
            (way, folder): functools.partial(_once, folder, file, encoding)
            for way, file in ways.items()
            for folder in (few, source)
        }
        seconds = in_turns(timers, rounds)
    starts = {way: statistics.median(seconds[way, few]) for way in ways}
    wholes = {way: statistics.median(seconds[way, source]) for way in ways}
    cores = runtime.num_cpus()
    return [
        {
            'way': way,
            'encoding': encoding,
            'images': count,
            'rounds': rounds,
            'processes': cores,
            'start_seconds': starts[way],
            'images_per_second': count / (wholes[way] - starts[way]),
            'part_seconds': taken[way],
            'accounted_for': sum(taken[way].values())
            * count
            / (cores * (wholes[way] - starts[way])),
        }
        for way in ways
    ]


def _once(*arguments):
    return [prepare_all(*arguments)]


def _row(record):
    rate = record['images_per_second']
    return (
        f'{record["way"]}, {record["encoding"]}',
        [
            f'{rate:,.0f}',
            f'{rate / record["processes"]:,.0f}',
            f'{record["start_seconds"]:.1f} s',
            *(f'{1e3 * part:.2f} ms' for part in record['part_seconds'].values()),
            f'{record["accounted_for"]:.0%}',
        ],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=2_000)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--sample', type=int, default=500, help='images for the parts')
    parser.add_argument('--encoding', default='png', choices=records.ENCODINGS)
    parser.add_argument('--source', type=Path, help='photographs of your own')
    parser.add_argument('--landmarks', type=Path, help='of --source')
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        source, landmarks = arguments.source, arguments.landmarks
        if source is None:
            source, landmarks = write_photographs(Path(directory), arguments.images)
        measured = measure(
            source, landmarks, arguments.encoding, arguments.rounds, arguments.sample
        )
    columns = (
        'images/s',
        'per core',
        'start',
        *measured[0]['part_seconds'],
        'accounted for',
    )
    print(markdown(columns, [_row(record) for record in measured], 'faces by'))
    for record in measured:
        append_record('preparing', record)


if __name__ == '__main__':
    main()
