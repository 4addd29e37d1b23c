"""Photographs a second through `sicnn hallucinate`, and which phase holds them up.

    python -m benchmarks.speed.photographs --count=200 --rounds=3
    python -m benchmarks.speed.photographs --images=lfw/images

JPEG files of one megapixel, a face in each: those of --images, enlarged, in which the
detector finds faces, or drawn ones with their landmarks, which need neither photographs
nor the detector. The whole is what the command does, once compiled: read, detect, align
and write in threads while the network works. A phase is the same work of it alone, on
all cores: the slowest one bounds the whole, and the last line says what share of that
is reached. On a CPU phases share the cores, so that no more can be reached than what
they take together; that is said, too.
"""

import argparse
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.measuring import append_record, in_turns, markdown
from benchmarks.speed.reading import render
from sicnn_jax.data import align, image_files, runtime
from sicnn_jax.data.detect import DetectedFace
from sicnn_jax.inference import Hallucinator, photographs
from sicnn_jax.inference.jobs import Job, list_jobs

# Width and height, a megapixel in the shape of a photograph.
SIZE = (1152, 864)
_DISTINCT = 64
_JPEG_QUALITY = 90
# Of the size of the faces that are drawn beside that of the template.
_SCALE = 0.75


def draw(directory: Path, count: int) -> np.ndarray:
    """Writes photographs with a face in the middle; returns its landmarks [5, 2]."""
    faces = render(min(count, _DISTINCT))
    rng = np.random.default_rng(0)
    corner = np.array(SIZE) // 3
    for place in range(count):
        face = Image.fromarray(faces[place % len(faces)])
        # Soft shapes and fine grain: what a photograph costs to decode.
        shapes = rng.integers(0, 256, (9, 12, 3), np.uint8)
        picture = Image.fromarray(shapes).resize(SIZE, Image.Resampling.BICUBIC)
        grain = rng.normal(0, 4, (*SIZE[::-1], 1))
        pixels = np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)
        picture = Image.fromarray(pixels)
        size = tuple(round(side * _SCALE) for side in face.size)
        small = face.resize(size, Image.Resampling.BICUBIC)
        picture.paste(small, tuple(corner.tolist()))
        picture.save(directory / f'{place:04d}.jpg', quality=_JPEG_QUALITY)
    # Pixels are squares: the first one's centre is at 0.
    return (np.asarray(align.TEMPLATE) + 0.5) * _SCALE - 0.5 + corner


def enlarge(source: Path, directory: Path, count: int) -> None:
    """Writes photographs of a folder with a megapixel each, over and over."""
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
      landmarks: of the face of each photograph, or None to find faces.
    """

    hallucinator: Hallucinator
    jobs: Sequence[Job]
    out: Path
    landmarks: np.ndarray | None = None

    def locate(self, job: Job, picture: Any) -> Sequence[DetectedFace]:
        """As `photographs.Locate`."""
        if self.landmarks is None:
            return self.hallucinator.locate(picture.pixels)
        corner = self.landmarks.min(0)
        box = np.concatenate([corner, self.landmarks.max(0) - corner])
        return [DetectedFace(box, self.landmarks, 1.0)]

    def run(self) -> int:
        """Does it all; returns the number of faces."""
        entries = photographs.run(
            self.hallucinator, self.jobs, self.out, locate=self.locate
        )
        return sum(len(entry['faces']) for entry in entries)

    def phases(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Each phase as a function, of what the ones before it made."""

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
    """As `photographs.run` has them."""
    return [*runtime.ordered_map(function, items, workers=runtime.num_cpus())]


def measure(command: Command, rounds: int) -> dict[str, Any]:
    """Times the whole and each phase in turn: images a second, and the shares.

    Pictures of all jobs are in memory meanwhile, 3 MB each.
    """
    # Compiles.
    faces = command.run()
    phases = dict(command.phases())
    timers = {'whole': command.run} | phases
    seconds = {
        name: statistics.median(times)
        for name, times in in_turns(
            {name: _timer(function) for name, function in timers.items()}, rounds
        ).items()
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


def _timer(function):
    def once():
        start = time.perf_counter()
        function()
        return [time.perf_counter() - start]

    return once


def table(record: dict[str, Any]) -> str:
    """Images a second of each phase, and of the whole."""
    rates = record['phases_per_second']
    rows = [(name, [f'{rate:,.1f}']) for name, rate in rates.items()]
    rows.append(('all of it', [f'{record["images_per_second"]:,.1f}']))
    slowest = min(rates, key=rates.__getitem__)
    return (
        markdown(('images/s',), rows, 'phase')
        + f'\nOf what {slowest} alone would allow: {record["of_slowest"]:.0%}; of what '
        f'all phases take one after the other: {record["of_all"]:.0%}'
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--images', type=Path, help='a folder of photographs instead of drawn ones')
    add('--count', type=int, default=200)
    add('--rounds', type=int, default=3)
    add('--checkpoint', help='of sicnn hallucinate; default: the network that ships')
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
