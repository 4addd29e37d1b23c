"""Hallucinates the small faces of photographs: 12×14 pixels → 96×112.

    python -m sicnn_jax.hallucinate photo.jpg folder --out=faces

It uses the network that ships; --checkpoint=runs/di takes one of yours. INPUT is a
photograph, a folder of them (with all its folders), or a face that is aligned already
and of exactly the network's size, 12×14 or 24×28. Finding faces needs the extra
`detect`, or --landmarks. For `folder/a/b.jpg` it writes `a/b_face0.png`,
`a/b_face0_compare.png`, with --paste `a/b_pasted.png`, and for all of them
`report.json`, also if Ctrl-C stops it. Exit status: 0 if there was a face, 1 if there
was none or an error is named, 2 for bad arguments, 130 if it was stopped.
"""

import argparse
import dataclasses
import datetime
import functools
import json
import math
import mimetypes
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from sicnn_jax import command, images, metrics, pictures, weights, workdir
from sicnn_jax.data import align, detect, runtime, sources
from sicnn_jax.data.detect import DetectedFace
from sicnn_jax.data.records import DatasetError
from sicnn_jax.hallucinator import Hallucinator, paste_back
from sicnn_jax.results_file import write_whole

# Faces and photographs that are enough to let the network work on them.
_ENOUGH_FACES, _ENOUGH_PHOTOS = 32, 128
# Seconds between two lines of progress.
_PROGRESS_EVERY = 5.0
_MEASURES = {
    'psnr': ('PSNR', '{:.2f}'),
    'ssim': ('SSIM', '{:.4f}'),
    'identity_similarity': ('identity sim.', '{:.4f}'),
}


@dataclasses.dataclass(frozen=True)
class Job:
    """One file to hallucinate.

    Attributes:
      path: of the file.
      key: what landmarks, references and the report call it: its path below the
        folder that was given, with /, or its name.
      name: of what is written, without the ends `_face0.png` and so on.
    """

    path: Path
    key: str
    name: str


# The faces of a photograph. What it raises as DatasetError is the reason why a file
# gives none.
Locate = Callable[[Job, np.ndarray], Sequence[DetectedFace]]


@dataclasses.dataclass(frozen=True)
class _Photo:
    """A file whose faces are cut out, or the reason why there are none."""

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


def list_jobs(inputs: Iterable[str | os.PathLike], out: Path) -> list[Job]:
    """The files that inputs stand for, each with a name of its own.

    Of folders, those that are images by their names; hidden ones, and what lies in
    `out`, are passed over.
    """
    found = [pair for path in inputs for pair in _expand(Path(path), out.resolve())]
    jobs, taken = [], set()
    for path, key in found:
        # `a.jpg` and `a.png` in one folder, or two folders with the same names.
        numbered = (f'{key}_{number}' for number in range(2, len(found) + 2))
        candidates = (os.path.splitext(key)[0], key, *numbered)
        name = next(name for name in candidates if name not in taken)
        taken.add(name)
        jobs.append(Job(path, key, name))
    return jobs


def run(
    hallucinator: Hallucinator,
    jobs: Sequence[Job],
    out: Path,
    *,
    locate: Locate,
    paste: bool = False,
    reference: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Hallucinates files, a few at a time, and writes the faces.

    Threads decode, find faces and write, while the network works on batches of faces
    of several files.

    Args:
      hallucinator: the network.
      jobs: of `list_jobs`.
      out: directory to write to.
      locate: the faces of a photograph.
      paste: also write the photograph with the faces put back.
      reference: originals to measure against, see `find_reference`.

    Yields:
      What the report says of each file, in the order of the jobs.

    Raises:
      DetectorMissingError: `locate` needs a package that is not installed.
    """
    prepare = functools.partial(_prepare, hallucinator, locate, reference)
    write = functools.partial(_write, hallucinator, out, paste)
    workers = runtime.num_cpus()
    prepared = runtime.ordered_map(prepare, jobs, workers=workers)
    results = _hallucinated(hallucinator, prepared)
    progress = _Progress(len(jobs))
    for entry in runtime.ordered_map(write, results, workers=workers):
        if 'reason' in entry:
            print(f'{entry["input"]}: {entry["reason"]}', file=sys.stderr, flush=True)
        progress.count(len(entry['faces']))
        yield entry


def find_reference(reference: Path, job: Job) -> Path | None:
    """The original of a file: `reference` itself, or what has its name in it.

    Its suffix may be another. None where there is none.
    """
    if not reference.is_dir():
        return reference
    exact = reference / job.key
    if exact.is_file():
        return exact
    beside = exact.parent.iterdir() if exact.parent.is_dir() else ()
    return min(
        (path for path in beside if path.stem == exact.stem and _is_image(path.name)),
        default=None,
    )


def summarise(entries: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Means of what was measured, by method; empty where nothing was."""
    measured = [
        face['measured']
        for entry in entries
        for face in entry['faces']
        if 'measured' in face
    ]
    return {
        method: {
            name: float(np.mean([row[method][name] for row in measured]))
            for name in values
        }
        for method, values in (measured[0].items() if measured else ())
    }


def format_measures(means: Mapping[str, Mapping[str, float]]) -> str:
    """A line a method."""
    lines = [f'{"method":<8}' + ''.join(f'{t:>15}' for t, _ in _MEASURES.values())]
    lines += [
        f'{method:<8}'
        + ''.join(
            f'{form.format(values[name]) if name in values else "":>15}'
            for name, (_, form) in _MEASURES.items()
        )
        for method, values in means.items()
    ]
    return '\n'.join(lines)


def _is_image(name):
    # mimetypes would take what follows a `?` or `#` in the name for no part of it.
    kind, _ = mimetypes.guess_type('x' + Path(name).suffix, strict=False)
    return kind is not None and kind.startswith('image/')


def _expand(path, out):
    if not path.is_dir():
        yield path, path.name
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith('.') and Path(folder, name).resolve() != out
        )
        for name in sorted(names):
            if _is_image(name) and not name.startswith('.'):
                file = Path(folder, name)
                yield file, file.relative_to(path).as_posix()


def _prepare(hallucinator, locate, reference, job):
    try:
        image = sources.load_image(str(job.path), 'it')
        faces = locate(job, image)
        if not faces:
            return _Photo(job, reason='no face was found in it')
        lr = [
            image
            if image.shape == hallucinator.lr_shape
            else hallucinator.network_input(image, face.landmarks)
            for face in faces
        ]
        path = reference and find_reference(reference, job)
        hr = sources.load_image(str(path)) if path else None
        originals = [
            _align_original(hr, image.shape, face.landmarks, path)
            for face in (faces if path else ())
        ]
        return _Photo(job, faces, lr, originals)
    except detect.DetectorMissingError:
        raise
    except DatasetError as error:
        return _Photo(job, reason=str(error))


def _align_original(hr, shape, landmarks, path):
    """The original of a face: of the photograph in another size, or aligned already."""
    finer = np.array(hr.shape[1::-1]) / shape[1::-1]
    # Sizes are whole pixels, so the two factors may differ a little.
    if abs(finer[0] / finer[1] - 1) <= 2 / min(shape[:2]):
        return align.align_face(hr, (landmarks + 0.5) * finer - 0.5)
    if hr.shape[:2] == (images.HEIGHT, images.WIDTH):
        return hr
    raise DatasetError(
        f'{path} is {hr.shape[1]}×{hr.shape[0]}; expected an aligned face of '
        f'{images.WIDTH}×{images.HEIGHT}, or the {shape[1]}×{shape[0]} photograph in '
        'another size.'
    )


def _hallucinated(
    hallucinator: Hallucinator, photos: Iterable[_Photo]
) -> Iterator[_Result]:
    """Photographs with their faces hallucinated, those of several at once."""
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
        measured = _measure(hallucinator, methods, photo.originals)
        yield _Result(photo, methods, measured)


def _measure(hallucinator, methods, originals):
    """PSNR, SSIM and identity similarity of each face, by method."""
    if not originals:
        return []
    hr = np.stack(originals)
    hr_features = hallucinator.features(hr)
    columns = {}
    for method, sr in methods.items():
        columns[method] = {'psnr': metrics.psnr(sr, hr), 'ssim': metrics.ssim(sr, hr)}
        if hr_features is not None:
            columns[method]['identity_similarity'] = metrics.pair_scores(
                hallucinator.features(sr), hr_features
            )
    return [
        {
            method: {name: float(values[row]) for name, values in column.items()}
            for method, column in columns.items()
        }
        for row in range(len(hr))
    ]


def _write(hallucinator, out, paste, result):
    """Writes what was made of a file; returns what the report says of it."""
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
            # Read again: keeping thousands of pixels for a face would fill memory.
            picture = paste_back(
                sources.load_image(str(photo.job.path)),
                [
                    (sr, face.landmarks)
                    for sr, face in zip(
                        result.methods['sicnn'], photo.faces, strict=True
                    )
                ],
                max_magnification=hallucinator.scale,
            )
            path = _below(out, f'{photo.job.name}_pasted.png')
            pictures.save(path, Image.fromarray(picture))
            entry['written'].append(path.relative_to(out).as_posix())
    except (OSError, DatasetError) as error:
        entry['reason'] = f'what was made of it cannot be written: {error}'
    return entry


def _write_face(out, result, index):
    name = f'{result.photo.job.name}_face{index}'
    face, comparison = _below(out, f'{name}.png'), _below(out, f'{name}_compare.png')
    pictures.save(face, Image.fromarray(result.methods['sicnn'][index]))
    columns = {
        'input': pictures.enlarge_pixels(result.photo.lr[index][None]),
        'bicubic': result.methods['bicubic'][index][None],
        'SICNN': result.methods['sicnn'][index][None],
    }
    if result.photo.originals:
        columns['original'] = result.photo.originals[index][None]
    pictures.save_grid(comparison, columns)
    return [path.relative_to(out).as_posix() for path in (face, comparison)]


def _below(out, name):
    """A path in a directory, and nowhere else: links in it may lead astray."""
    path = out / name
    if not path.resolve().is_relative_to(out.resolve()):
        raise DatasetError(f'{path} is outside of {out}')
    return path


class _Progress:
    """Says now and then how far it is, on standard error."""

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


def _locator(hallucinator: Hallucinator, arguments: argparse.Namespace) -> Locate:
    """Faces by the landmarks file that was given, or else by the detector."""
    if arguments.landmarks is None:

        def find(job, image):
            found = hallucinator.locate(
                image, min_size=arguments.min_size, min_score=arguments.min_score
            )
            return detect.choose(found, arguments.faces, image.shape)

        return find

    landmarks = align.read_landmarks(arguments.landmarks)

    def look_up(job, image):
        if job.key not in landmarks:
            raise DatasetError(f'it is not in {arguments.landmarks}')
        points = landmarks[job.key]
        corner = points.min(0)
        box = np.concatenate([corner, points.max(0) - corner])
        return [DetectedFace(box, points, 1.0)]

    return look_up


def _report(arguments, hallucinator, entries):
    means = summarise(entries)
    return {
        'stage': str(hallucinator.stage),
        'scale': hallucinator.scale,
        'images': len(entries),
        'faces': sum(len(entry['faces']) for entry in entries),
        **({'measured': means} if means else {}),
        'files': entries,
    }


def _without_infinities(report):
    """JSON has none; PSNR of a face that equals its original is one."""

    def finite(value):
        return None if isinstance(value, float) and math.isinf(value) else value

    return jax.tree.map(finite, report)


def _parse(arguments):
    parser = argparse.ArgumentParser(
        prog='python -m sicnn_jax.hallucinate', description=__doc__.splitlines()[0]
    )
    parser.add_argument('inputs', nargs='+', metavar='INPUT', type=Path)
    workdir.add_network_flags(parser)
    parser.add_argument('--out', required=True, type=Path, help='directory')
    parser.add_argument(
        '--paste', action='store_true', help='write photographs with the faces, too'
    )
    parser.add_argument('--faces', choices=detect.CHOICES, default='all')
    parser.add_argument(
        '--landmarks', type=Path, help='PATH and ten numbers a line; finds no faces'
    )
    parser.add_argument(
        '--min_score', type=float, default=detect.MIN_SCORE, help='of a face, 0 to 1'
    )
    parser.add_argument(
        '--min_size',
        type=float,
        help=f'of a face in pixels; default: {detect.SMALLEST}, and 1/45 of the longer '
        'side',
    )
    parser.add_argument(
        '--compare',
        type=Path,
        metavar='REFERENCE',
        help='originals of the same names to measure against',
    )
    parsed = parser.parse_args(arguments)
    if not 0 <= parsed.min_score <= 1:
        parser.error(f'--min_score is {parsed.min_score}; expected 0 to 1.')
    if parsed.min_size is not None and parsed.min_size < detect.SMALLEST:
        parser.error(f'--min_size is {parsed.min_size}; least: {detect.SMALLEST}.')
    if parsed.compare and not parsed.compare.exists():
        parser.error(f'--compare={parsed.compare} is missing.')
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run(_hallucinate, _parse(arguments))


def _hallucinate(options):
    out = options.out
    entries: list[dict[str, Any]] = []
    stopped = False
    hallucinator = Hallucinator(options.checkpoint, scale=options.scale)
    if options.checkpoint is None:
        print(weights.NOTICE, flush=True)
    locate = _locator(hallucinator, options)
    out.mkdir(parents=True, exist_ok=True)
    jobs = list_jobs(options.inputs, out)
    coming = run(
        hallucinator,
        jobs,
        out,
        locate=locate,
        paste=options.paste,
        reference=options.compare,
    )
    try:
        for entry in coming:
            entries.append(entry)
    except KeyboardInterrupt:
        stopped = True
    report = _report(options, hallucinator, entries)
    path = out / 'report.json'
    text = json.dumps(_without_infinities(report), indent=1, ensure_ascii=False)
    write_whole(path, (text + '\n').encode())
    if 'measured' in report:
        print(format_measures(report['measured']))
    done = f'{len(entries)} of {len(jobs)}' if stopped else len(jobs)
    print(f'{report["faces"]} faces of {done} images; written: {path}')
    if stopped:
        return command.INTERRUPTED
    return command.DONE if report['faces'] else command.ERROR


if __name__ == '__main__':
    sys.exit(main())
