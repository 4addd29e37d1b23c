"""Hallucinates photographs, a few at a time, while threads read and write."""

import dataclasses
import datetime
import functools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sicnn_jax import pictures
from sicnn_jax.data import detect, image_files, runtime
from sicnn_jax.data.detect import DetectedFace
from sicnn_jax.data.image_files import Picture
from sicnn_jax.data.records import DatasetError
from sicnn_jax.inference.hallucinator import Hallucinator
from sicnn_jax.inference.jobs import Job, find_reference
from sicnn_jax.inference.measuring import align_original, measure
from sicnn_jax.inference.pasting import paste_back

# The network starts once there are this many faces or photographs.
_ENOUGH_FACES, _ENOUGH_PHOTOS = 32, 128
# Seconds between two lines of progress.
_PROGRESS_EVERY = 5.0

# Finds the faces of a photograph, in its pixels. If a file gives no faces, it may raise
# DatasetError with the reason.
Locate = Callable[[Job, Picture], Sequence[DetectedFace]]


@dataclasses.dataclass(frozen=True)
class _Photo:
    """A file with its faces cut out, or the reason why there are none.

    Boxes and landmarks are in pixels of the file.
    """

    job: Job
    faces: Sequence[DetectedFace] = ()
    lr: Sequence[np.ndarray] = ()
    originals: Sequence[np.ndarray] = ()
    reason: str = ''


@dataclasses.dataclass(frozen=True)
class _Result:
    """The same file with its faces hallucinated, and measured if it has originals."""

    photo: _Photo
    methods: Mapping[str, np.ndarray]
    measured: Sequence[Mapping[str, Mapping[str, float]]]


def run(
    hallucinator: Hallucinator,
    jobs: Sequence[Job],
    out: Path,
    *,
    locate: Locate,
    paste: bool = False,
    reference: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Hallucinates the files of `list_jobs`, a few at a time, and writes the faces.

    Threads decode, find faces and write, while the network works on the faces of
    several files at once.

    Args:
      hallucinator, jobs, locate: the network, its files, and where their faces are.
      out: directory to write to.
      paste: whether to write each photograph with its faces put back, too.
      reference: originals to measure against, see `find_reference`.

    Yields:
      The report's entry for each file, in the order of the jobs.

    Raises:
      DetectorMissingError: `locate` needs a package that is not installed.
    """
    prepare = functools.partial(_prepare, hallucinator, locate, reference)
    write = functools.partial(_write, hallucinator, out, paste)
    workers, progress = runtime.num_cpus(), _Progress(len(jobs))
    prepared = runtime.ordered_map(prepare, jobs, workers=workers)
    results = _hallucinated(hallucinator, prepared)
    for entry in runtime.ordered_map(write, results, workers=workers):
        if 'reason' in entry:
            print(f'{entry["input"]}: {entry["reason"]}', file=sys.stderr, flush=True)
        progress.count(len(entry['faces']))
        yield entry


def _prepare(hallucinator, locate, reference, job):
    try:
        picture = image_files.load_picture(str(job.path), 'it')
        faces = locate(job, picture)
        if not faces:
            return _Photo(job, reason='no face was found in it')
        image, points = picture.pixels, [face.landmarks for face in faces]
        lr = [hallucinator.network_input(image, each) for each in points]
        path = reference and find_reference(reference, job)
        originals = []
        if path:
            hr = image_files.load_image(str(path))
            originals = [align_original(hr, image.shape, each, path) for each in points]
        return _Photo(job, [_in_file(face, picture) for face in faces], lr, originals)
    except detect.DetectorMissingError:
        raise
    except DatasetError as error:
        return _Photo(job, reason=str(error))


def _in_file(face, picture):
    corner, size = face.box[:2], face.box[2:]
    return dataclasses.replace(
        face,
        box=np.concatenate([picture.to_file(corner), size * picture.reduced]),
        landmarks=picture.to_file(face.landmarks),
    )


def _hallucinated(
    hallucinator: Hallucinator, photos: Iterable[_Photo]
) -> Iterator[_Result]:
    """Hallucinates the faces of several photographs at once."""
    waiting: list[_Photo] = []
    for photo in photos:
        waiting.append(photo)
        faces = sum(len(photo.lr) for photo in waiting)
        if faces >= _ENOUGH_FACES or len(waiting) >= _ENOUGH_PHOTOS:
            yield from _super_resolve(hallucinator, waiting)
            waiting = []
    yield from _super_resolve(hallucinator, waiting)


def _super_resolve(hallucinator, photos):
    lr = np.array([face for photo in photos for face in photo.lr], np.uint8)
    lr = lr.reshape(-1, *hallucinator.lr_shape)
    made = {'bicubic': hallucinator.enlarge(lr), 'sicnn': hallucinator(lr)}
    start = 0
    for photo in photos:
        stop = start + len(photo.lr)
        methods = {method: faces[start:stop] for method, faces in made.items()}
        start = stop
        measured = measure(hallucinator, methods, photo.originals)
        yield _Result(photo, methods, measured)


def _write(hallucinator, out, paste, result):
    """Writes the results of a file; returns its entry in the report."""
    photo = result.photo
    entry: dict[str, Any] = {'input': photo.job.key, 'faces': [], 'written': []}
    if photo.reason:
        return entry | {'reason': photo.reason}
    try:
        for index, face in enumerate(photo.faces):
            entry['written'] += _write_face(out, result, index)
            entry['faces'].append(
                {
                    'box': np.round(face.box, 2).tolist(),
                    'landmarks': np.round(face.landmarks, 2).tolist(),
                    'score': round(face.score, 4),
                }
                | ({'measured': result.measured[index]} if result.measured else {})
            )
        if paste:
            # It is read again: keeping thousands of pixels per face would fill memory.
            picture = image_files.load_picture(str(photo.job.path))
            landmarks = [picture.from_file(face.landmarks) for face in photo.faces]
            pasted = paste_back(
                picture.pixels,
                [*zip(result.methods['sicnn'], landmarks, strict=True)],
                max_magnification=hallucinator.scale,
            )
            path = _below(out, f'{photo.job.name}_pasted.png')
            pictures.save(path, Image.fromarray(pasted))
            entry['written'].append(path.relative_to(out).as_posix())
    except (OSError, DatasetError) as error:
        entry['reason'] = f'its results cannot be written: {error}'
    return entry


def _write_face(out, result, index):
    photo, sicnn = result.photo, result.methods['sicnn'][index]
    name = f'{photo.job.name}_face{index}'
    face, comparison = _below(out, f'{name}.png'), _below(out, f'{name}_compare.png')
    pictures.save(face, Image.fromarray(sicnn))
    columns = {
        'input': pictures.enlarge_pixels(photo.lr[index][None]),
        'bicubic': result.methods['bicubic'][index][None],
        'SICNN': sicnn[None],
    }
    if photo.originals:
        columns['original'] = photo.originals[index][None]
    pictures.save_grid(comparison, columns)
    return [path.relative_to(out).as_posix() for path in (face, comparison)]


def _below(out, name):
    """A path in a directory; DatasetError if links in it lead elsewhere."""
    path = out / name
    if not path.resolve().is_relative_to(out.resolve()):
        raise DatasetError(f'{path} is outside of {out}')
    return path


class _Progress:
    """Prints the progress now and then on standard error."""

    def __init__(self, total: int):
        self._total, self._done, self._faces = total, 0, 0
        self._start = self._said = time.monotonic()

    def count(self, faces: int) -> None:
        self._done += 1
        self._faces += faces
        now = time.monotonic()
        if now - self._said < _PROGRESS_EVERY and self._done < self._total:
            return
        self._said = now
        rate = self._done / max(now - self._start, 1e-9)
        left = datetime.timedelta(seconds=round((self._total - self._done) / rate))
        print(
            f'{self._done}/{self._total} images, {self._faces} faces, '
            f'{rate:.2f} images/s, {left} left',
            file=sys.stderr,
            flush=True,
        )
