"""Photographs per second through `sicnn hallucinate`, and the slowest phase.

    python -m benchmarks.speed.photographs --count=200 --rounds=3
    python -m benchmarks.speed.photographs --images=lfw/images

The photographs are JPEG files of one megapixel with a face in each: those of --images,
enlarged, in which the detector finds the faces, or drawn ones with known landmarks,
which need neither photographs nor the detector.

The whole is what `sicnn hallucinate` does, once compiled: threads read, detect, align
and write while the network works. Each phase is also timed by itself, on all cores. The
slowest phase bounds the rate of the whole, and the last line says what share of that
bound is reached. On a CPU, all phases share the cores, so the line also compares the
whole with the phases one after the other.
"""

import argparse
import dataclasses
import functools
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.measuring import append_record, in_turns, markdown, time_calls
from benchmarks.speed.reading import render
from sicnn_jax.data import align, image_files, runtime
from sicnn_jax.data.detect import DetectedFace
from sicnn_jax.inference import Hallucinator, photographs
from sicnn_jax.inference.jobs import Job, list_jobs

# Width and height: a megapixel in the shape of a photograph.
SIZE = (1152, 864)
_DISTINCT = 64
_JPEG_QUALITY = 90
# The size of the drawn faces relative to the template.
_SCALE = 0.75


def draw(directory: Path, count: int) -> np.ndarray:
    """Writes photographs with a face in the middle; returns its landmarks [5, 2]."""
    faces = render(min(count, _DISTINCT))
    rng = np.random.default_rng(0)
    corner = np.array(SIZE) // 3
    for place in range(count):
        face = Image.fromarray(faces[place % len(faces)])
        # With soft shapes and fine grain, it takes as long to decode as a photograph.
        shapes = rng.integers(0, 256, (9, 12, 3), np.uint8)
        picture = Image.fromarray(shapes).resize(SIZE, Image.Resampling.BICUBIC)
        grain = rng.normal(0, 4, (*SIZE[::-1], 1))
        pixels = np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)
        picture = Image.fromarray(pixels)
        size = tuple(round(side * _SCALE) for side in face.size)
        small = face.resize(size, Image.Resampling.BICUBIC)
        picture.paste(small, tuple(corner.tolist()))
        picture.save(directory / f'{place:04d}.jpg', quality=_JPEG_QUALITY)
    # Pixels are squares, and the centre of the first one is at 0.
    return (np.asarray(align.TEMPLATE) + 0.5) * _SCALE - 0.5 + corner


def enlarge(source: Path, directory: Path, count: int) -> None:
    """Writes photographs of a folder, repeated as needed, with a megapixel each."""
    files = sorted(job.path for job in list_jobs([source], directory).jobs)
    for place, path in enumerate(itertools.islice(itertools.cycle(files), count)):
        picture = Image.fromarray(image_files.load_image(str(path)))
        factor = (SIZE[0] * SIZE[1] / (picture.width * picture.height)) ** 0.5
        size = round(picture.width * factor), round(picture.height * factor)
        picture = picture.resize(size, Image.Resampling.BICUBIC)
        picture.save(directory / f'{place:04d}.jpg', quality=_JPEG_QUALITY)


@dataclasses.dataclass(frozen=True)
class Command:
    """What `sicnn hallucinate` does with photographs, whole and in phases.

    Attributes:
      hallucinator: the network.
      jobs: the photographs.
      out: where faces are written.
      landmarks: of the face in every photograph, or None to find faces.
    """

    hallucinator: Hallucinator
    jobs: Sequence[Job]
    out: Path
    landmarks: np.ndarray | None = None

    def locate(self, job: Job, picture: Any) -> Sequence[DetectedFace]:
        """The faces of a photograph; a `photographs.Locate`."""
        if self.landmarks is None:
            return self.hallucinator.locate(picture.pixels)
        corner = self.landmarks.min(0)
        box = np.concatenate([corner, self.landmarks.max(0) - corner])
        return [DetectedFace(box, self.landmarks, 1.0)]

    def run(self) -> int:
        """Runs the whole; returns the number of faces."""
        entries = photographs.run(
            self.hallucinator, self.jobs, self.out, locate=self.locate
        )
        return sum(len(entry['faces']) for entry in entries)

    def phases(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Each phase, as a function that works on the results of those before."""

        def read(job):
            return image_files.load_picture(str(job.path))

        pictures = _in_threads(read, self.jobs)
        yield 'read', lambda: _in_threads(read, self.jobs)

        def detect(pair):
            return self.locate(*pair)

        pairs = [*zip(self.jobs, pictures, strict=True)]
        found = _in_threads(detect, pairs)
        if self.landmarks is None:
            yield 'detect', lambda: _in_threads(detect, pairs)

        def cut_out(pair):
            picture, faces = pair
            return [
                self.hallucinator.network_input(picture.pixels, face.landmarks)
                for face in faces
            ]

        given = [*zip(pictures, found, strict=True)]
        inputs = _in_threads(cut_out, given)
        yield 'align', lambda: _in_threads(cut_out, given)

        prepared = [
            photographs._Photo(job, faces, lr)
            for job, faces, lr in zip(self.jobs, found, inputs, strict=True)
        ]

        def work():
            return [*photographs._hallucinated(self.hallucinator, prepared)]

        results = work()
        yield 'network', work

        def write(result):
            return photographs._write(self.hallucinator, self.out, False, result)

        yield 'write', lambda: _in_threads(write, results)


def _in_threads(function, items):
    """In threads, as in `photographs.run`."""
    return [*runtime.ordered_map(function, items, workers=runtime.num_cpus())]


def measure(command: Command, rounds: int) -> dict[str, Any]:
    """Times the whole and each phase in turn; returns images per second and shares.

    The pictures of all jobs are in memory meanwhile, 3 MB each.
    """
    # Compiles.
    faces = command.run()
    timers = {
        name: functools.partial(time_calls, function, 1)
        for name, function in (('whole', command.run), *command.phases())
    }
    seconds = {
        name: statistics.median(times)
        for name, times in in_turns(timers, rounds).items()
    }
    whole = seconds.pop('whole')
    return {
        'photographs': len(command.jobs),
        'faces': faces,
        'images_per_second': len(command.jobs) / whole,
        'phases_per_second': {
            name: len(command.jobs) / time for name, time in seconds.items()
        },
        'of_slowest': max(seconds.values()) / whole,
        'of_all': sum(seconds.values()) / whole,
    }


def table(record: dict[str, Any]) -> str:
    """Images per second of each phase and of the whole."""
    rates = record['phases_per_second']
    rows = [(name, [f'{rate:,.1f}']) for name, rate in rates.items()]
    rows.append(('all of it', [f'{record["images_per_second"]:,.1f}']))
    slowest = min(rates, key=rates.__getitem__)
    return (
        markdown(('images/s',), rows, 'phase')
        + f'\nThe whole has {record["of_slowest"]:.0%} of the rate of {slowest} alone, '
        f'and {record["of_all"]:.0%} of the rate of all phases one after the other.'
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--images', type=Path, help='a folder of photographs instead of drawn ones')
    add('--count', type=int, default=200)
    add('--rounds', type=int, default=3)
    add('--checkpoint', help='as for sicnn hallucinate; default: the shipped one')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        source, out = Path(directory) / 'photographs', Path(directory) / 'faces'
        source.mkdir()
        landmarks = None
        if options.images is None:
            landmarks = draw(source, options.count)
        else:
            enlarge(options.images, source, options.count)
        command = Command(
            Hallucinator(options.checkpoint),
            list_jobs([source], out).jobs,
            out,
            landmarks,
        )
        record = measure(command, options.rounds)
    record |= {
        'images': 'drawn' if options.images is None else 'given',
        'megapixels': SIZE[0] * SIZE[1] / 1e6,
        'rounds': options.rounds,
        'threads': runtime.num_cpus(),
    }
    print(table(record))
    append_record('photographs', record)


if __name__ == '__main__':
    main()
