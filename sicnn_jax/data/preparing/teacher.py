"""Writes a teacher's features of every face of a data set, for distillation."""

import dataclasses
import functools
import hashlib
import io
import itertools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from sicnn_jax import lock, names, results_file
from sicnn_jax.batches import in_batches
from sicnn_jax.data import align, image_files, records
from sicnn_jax.data.targets import read_targets, write_targets
from sicnn_jax.evaluation.judge import load_judge
from sicnn_jax.models import dlib_resnet
from sicnn_jax.onnx import runtime

__all__ = ['Describe', 'describe']

_CHUNK = 256

Describe = Callable[[list[records.Face[bytes]]], np.ndarray]


def describe(
    data: Path,
    teacher: str,
    photographs: Path | None = None,
    landmarks: Path | None = None,
    out: Path | None = None,
) -> Path:
    """Writes a teacher's features of every face of a data set, unless they exist.

    Args:
      data: directory of the data set.
      teacher: 'dlib', an `.onnx` file, or the directory of a finished stage.
      photographs: the directory that keys of faces are relative to.
      landmarks: of the photographs, as for `prepare`.
      out: the file; None for `data`/targets-NAME.safetensors.

    Returns:
      The file.

    Raises:
      DatasetError: the data set, a photograph or its landmarks are missing, or the
        file, or what an interrupted run left of it, is from another teacher.
      InUseError: another run is writing the file.
      CheckpointError: there is no such teacher.
    """
    name, function = _open_teacher(teacher, photographs, landmarks)
    out = out or data / f'targets-{name.partition(" ")[0]}.safetensors'
    info = records.read_dataset_info(data)
    if out.exists():
        other = read_targets(out, data).teacher
        if other != name:
            raise records.DatasetError(
                f'{out} is by the teacher {other!r}, but this one is {name!r}: '
                'choose another file with --out, or delete that one.'
            )
        return out
    unfinished = out.with_name(f'.{out.stem}.unfinished')
    settings = {'teacher': name, 'fingerprint': records.fingerprint(data)}
    keys: list[str] = []
    features: list[np.ndarray] = []
    with lock.hold(unfinished):
        _begin(unfinished, settings)
        for split, found in info.splits.items():
            faces = records.read_faces(data, split)
            for chunk, described in _describe_split(
                function, faces, found.num_examples, unfinished / split
            ):
                keys += [face.key for face in chunk]
                features.append(described)
        write_targets(out, name, keys, np.concatenate(features))
        shutil.rmtree(unfinished)
    return out


def _begin(unfinished, settings):
    """Continues an interrupted run, which must have had the same settings."""
    path = unfinished / 'settings.json'
    if not any(unfinished.glob('*/*.npy')):
        results_file.write_results(settings, path)
    try:
        left = json.loads(path.read_text(encoding='utf-8'))
    except (FileNotFoundError, ValueError):
        left = None
    if left != settings:
        raise records.DatasetError(
            f'{unfinished} is from an interrupted run with another '
            f'teacher or other data ({left}; now {settings}): finish that run, choose '
            'another file with --out, or delete the directory.'
        )


def _describe_split(function, faces, total, folder):
    """Chunks of faces and their features, which are kept in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    started, done = time.monotonic(), 0
    for first in range(0, total, _CHUNK):
        chunk = [*itertools.islice(faces, _CHUNK)]
        path = folder / f'{first:07d}.npy'
        if path.exists():
            yield chunk, np.load(path)
            continue
        features = function(chunk)
        buffer = io.BytesIO()
        np.save(buffer, features)
        results_file.write_whole(path, buffer.getvalue())
        yield chunk, features
        done += len(chunk)
        rate = done / (time.monotonic() - started)
        print(
            f'[{folder.name}] {first + len(chunk):,} of {total:,} faces, '
            f'{rate:,.0f} a second, {(total - first - len(chunk)) / rate:,.0f} s left',
            flush=True,
        )


def _open_teacher(
    teacher: str, photographs: Path | None, landmarks: Path | None
) -> tuple[str, Describe]:
    """The teacher's name, with a mark that tells it from others, and its function."""
    if (photographs is None) != (landmarks is None):
        raise records.DatasetError(
            'photographs and landmarks go together: give both or neither.'
        )
    if teacher == 'dlib':
        file = dlib_resnet.find_file()
        layers = dlib_resnet.read_layers(file)
        program = functools.partial(jax.jit(dlib_resnet.describe_chips), layers)
        seen, see = 'aligned', _chips_of_faces
        if photographs is not None and landmarks is not None:
            points = align.read_landmarks(landmarks)
            seen = f'photographs {_checksum(landmarks)}'
            see = functools.partial(_chips, photographs, points)
        name = f'dlib {_checksum(file)} {seen}'
        return name, lambda faces: in_batches(program, see(faces))
    if photographs is not None:
        raise records.DatasetError(
            f'photographs are for the teacher dlib, but the teacher is {teacher}, '
            'which sees aligned faces: leave them out.'
        )
    path = Path(teacher)
    if path.suffix != '.onnx':
        describe = load_judge(path).describe
    else:
        network = runtime.load_network(path)
        # Mirrored faces are for verification.
        once = dataclasses.replace(network.input, mirror=False)
        describe = dataclasses.replace(network, input=once)
    name = f'{names.printable(path.stem)} {_checksum(path)}'
    return name, lambda faces: describe(_decode(faces))[0]


def _decode(faces):
    return np.stack([records.decode_image(face.image) for face in faces])


def _chips_of_faces(faces):
    return np.asarray(dlib_resnet.make_chips(_decode(faces).astype(np.float32)))


def _chips(photographs, points, faces):
    """Of the original pixels, uint8 [n, 150, 150, 3]."""
    chips = []
    for face in faces:
        path = Path(names.find(photographs / face.key))
        if face.key not in points or not path.is_file():
            missing = path if face.key in points else f'landmarks of {face.key}'
            raise records.DatasetError(
                f'{missing} is missing: give the photographs and landmarks that the '
                'data set was prepared from, or leave out both.'
            )
        picture = image_files.load_picture(str(path), face.key)
        aligned = align.face_transform(picture.from_file(points[face.key]))
        chip = dlib_resnet.CHIP @ np.concatenate([aligned, [[0, 0, 1]]])
        chips.append(align.warp(picture.pixels, chip, (dlib_resnet.SIDE,) * 2))
    return np.stack(chips)


def _checksum(path):
    """Checksum of a file and its JSON, or of the files of a stage's networks."""
    files = [path, path.with_suffix('.json')]
    if path.is_dir():
        files = sorted((path / 'final').rglob('*'))
    digest = hashlib.sha256()
    for file in filter(Path.is_file, files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
