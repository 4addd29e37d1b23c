"""Describes the faces of a data set by a teacher, for distillation.

    python -m sicnn_jax.describe --data=data/lfw --teacher=dlib \\
        --photographs=lfw/images --landmarks=lfw/landmarks.txt

Writes data/lfw/targets-dlib.safetensors, for `config.data.targets`. Without photographs
the teacher sees the aligned faces; with them, dlib's network sees the chip of 150×150
pixels that it wants to see, of the original pixels. An interrupted run goes on with the
same command.
"""

import argparse
import functools
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from sicnn_jax import inference, results_file
from sicnn_jax.data import align, records, sources
from sicnn_jax.data.targets import write_targets
from sicnn_jax.metrics.judge import load_judge
from sicnn_jax.models import dlib_resnet

_CHUNK = 256

Describe = Callable[[list[records.Face[bytes]]], np.ndarray]


def describe(
    data: Path,
    teacher: str,
    photographs: Path | None = None,
    landmarks: Path | None = None,
    out: Path | None = None,
) -> Path:
    """Writes what a teacher says of every face of a data set.

    Args:
      data: shards.
      teacher: 'dlib', an `.onnx` file, or the directory of a finished stage.
      photographs: the directory that keys of faces are relative to.
      landmarks: of the photographs, as `prepare` takes them.
      out: the file; `data`/targets-NAME.safetensors if None.

    Returns:
      The file.

    Raises:
      DatasetError: the data set, a photograph or its landmarks are not there.
      CheckpointError: there is no such teacher.
    """
    name, function = _open_teacher(teacher, photographs, landmarks)
    out = out or data / f'targets-{name.partition(" ")[0]}.safetensors'
    info = records.read_dataset_info(data)
    unfinished = out.with_name(f'.{out.stem}.unfinished')
    settings = {'teacher': name, 'fingerprint': records.fingerprint(data)}
    _begin(unfinished, settings)
    keys, features = [], []
    for split in info.splits:
        faces = [*records.read_faces(data, split)]
        keys += [face.key for face in faces]
        features.append(_describe_all(function, faces, unfinished / split))
    write_targets(out, name, keys, np.concatenate(features))
    shutil.rmtree(unfinished)
    return out


def _begin(unfinished, settings):
    """Goes on with what an interrupted run left, if that was with these settings."""
    path = unfinished / 'settings.json'
    if unfinished.exists():
        try:
            same = json.loads(path.read_text()) == settings
        except (OSError, ValueError):
            same = False
        if not same:
            shutil.rmtree(unfinished)
    results_file.write_results(settings, path)


def _describe_all(function, faces, folder):
    parts, started, done = [], time.monotonic(), 0
    for first in range(0, len(faces), _CHUNK):
        path = folder / f'{first:07d}.npy'
        chunk = faces[first : first + _CHUNK]
        if path.exists():
            parts.append(np.load(path))
            continue
        folder.mkdir(parents=True, exist_ok=True)
        parts.append(function(chunk))
        staged = path.with_suffix('.half.npy')
        np.save(staged, parts[-1])
        staged.replace(path)
        done += len(chunk)
        rate = done / (time.monotonic() - started)
        left = (len(faces) - first - len(chunk)) / rate
        print(
            f'[{folder.name}] {first + len(chunk):,} of {len(faces):,} faces, '
            f'{rate:,.0f} a second, {left:,.0f} s left',
            flush=True,
        )
    return np.concatenate(parts)


def _open_teacher(
    teacher: str, photographs: Path | None, landmarks: Path | None
) -> tuple[str, Describe]:
    """Its name, with what tells it from others, and what it says of faces."""
    if (photographs is None) != (landmarks is None):
        raise records.DatasetError(
            'photographs and landmarks go together: give both or neither.'
        )
    if teacher == 'dlib':
        file = dlib_resnet.find_file()
        layers = dlib_resnet.read_layers(file)
        program = jax.jit(dlib_resnet.describe_chips)
        seen, see = 'aligned', _chips_of_faces
        if photographs is not None and landmarks is not None:
            points = align.read_landmarks(landmarks)
            seen, see = 'photographs', functools.partial(_chips, photographs, points)

        def function(faces):
            return inference.in_batches(lambda x: program(layers, x), see(faces))

        return f'dlib {_checksum(file)} {seen}', function
    if photographs is not None:
        raise records.DatasetError(
            f'photographs are for the teacher dlib, but it is {teacher}, which sees '
            'aligned faces: leave them out.'
        )
    judge = load_judge(teacher)
    name = f'{Path(teacher).stem} {_checksum(Path(teacher))}'
    return name, lambda faces: judge.describe(_decode(faces))[0]


def _decode(faces):
    return np.stack([records.decode_image(face.image) for face in faces])


def _chips_of_faces(faces):
    return np.asarray(dlib_resnet.make_chips(_decode(faces).astype(np.float32)))


def _chips(photographs, points, faces):
    """Of the original pixels, uint8 [n, 150, 150, 3]."""
    chips = []
    for face in faces:
        path = photographs / face.key
        if face.key not in points or not path.is_file():
            missing = path if face.key in points else f'landmarks of {face.key}'
            raise records.DatasetError(
                f'{missing} is missing: give the photographs and landmarks that the '
                'data set was prepared from, or leave out both.'
            )
        image = sources.load_image(str(path), face.key)
        aligned = align.similarity_transform(points[face.key], align.TEMPLATE)
        chip = dlib_resnet.CHIP @ np.concatenate([aligned, [[0, 0, 1]]])
        chips.append(align.warp(image, chip, (dlib_resnet.SIDE, dlib_resnet.SIDE)))
    return np.stack(chips)


def _checksum(path):
    """Of a file, or of the files of a stage's networks."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted((path / 'final').rglob('*'))
    for file in files:
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m sicnn_jax.describe',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--data', type=Path, required=True, help='shards')
    parser.add_argument(
        '--teacher', default='dlib', help='dlib, a .onnx file or a finished stage'
    )
    parser.add_argument(
        '--photographs', type=Path, help='what the data set was prepared from'
    )
    parser.add_argument('--landmarks', type=Path, help='of the photographs')
    parser.add_argument('--out', type=Path, help='by default in the data set')
    try:
        print(describe(**vars(parser.parse_args(argv))))
    except ValueError as error:
        print(f'describe: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('describe: interrupted; the same command goes on.', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
