"""Writes a data set of `records`: its shards, TFDS' metadata, and `faces.json` last."""

import contextlib
import functools
import io
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL import Image

from sicnn_jax import paths
from sicnn_jax.data import records, runtime
from sicnn_jax.data.records import ENCODINGS, SIDECAR, DatasetError, DatasetInfo, Face
from sicnn_jax.results_file import encode_json
from sicnn_jax.template import HEIGHT, WIDTH

__all__ = ['write_changed', 'write_dataset']

_DATASET = 'faces'


def write_dataset(
    directory: str | os.PathLike,
    splits: Mapping[str, Iterable[Face]],
    *,
    identities: Mapping[str, Sequence[str]],
    alignment: Any,
    encoding: str = 'png',
    shard_size: int = 4096,
    overwrite: bool = False,
) -> DatasetInfo:
    """Writes a data set; faces stream through, a few dozen in memory at a time.

    Shards are written elsewhere and moved into place once all are complete,
    `faces.json` last. So whatever happens, there is the old data set, the new, or none.

    Args:
      directory: made if absent.
      splits: faces by name of the split, each iterable read once, in order.
      identities: by split, the identity names in the order of their labels; some may
        have no faces.
      alignment: how faces were brought into place, stored as it is; any JSON value.
      encoding: `png` (exact) or `jpeg` (quality 95, colour at full resolution).
        Faces given as bytes must have it already.
      shard_size: faces in a shard.
      overwrite: replace a finished data set.

    Returns:
      The result of `read_dataset_info` for it.

    Raises:
      DatasetError: a data set exists and `overwrite` is not set; or a face has the
        wrong shape, dtype or encoding, a key seen before or an identity not in
        `identities`; or a split is empty or its name is invalid.
    """
    directory = paths.in_utf8(paths.local(directory))
    _check_request(directory, splits, identities, encoding, shard_size, overwrite)
    sidecar = {**records.FIXED, 'encoding': encoding, 'alignment': alignment}
    sidecar['splits'] = {}
    json.dumps(sidecar)  # Fails now, not after hours, if alignment is not JSON.
    existed = directory.exists()
    unfinished = directory / '.unfinished'
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        keys: set[str] = set()
        for name, faces in splits.items():
            unique = _checked(faces, name, keys)
            sidecar['splits'][name] = _write_split(
                unfinished, name, unique, identities[name], encoding, shard_size
            )
        _write_metadata(unfinished, sidecar)
        _publish(unfinished, directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not existed:
            # Only if nothing was written: a directory with files in it stays.
            with contextlib.suppress(OSError):
                directory.rmdir()
    return records.read_dataset_info(directory)


def write_changed(
    directory: pathlib.Path, out: pathlib.Path, shards: Mapping[str, Mapping[str, int]]
) -> None:
    """Writes the metadata of a data set with some shards replaced.

    Args:
      directory: of the original data set.
      out: the directory of the new data set's shards.
      shards: `bytes` and `examples` of the replaced shards, by name.
    """
    sidecar = records.read_sidecar(directory)
    for split in sidecar['splits'].values():
        for shard in split['shards']:
            shard.update(shards.get(shard['file'], {}))
    _write_metadata(out, sidecar)


def _check_request(directory, splits, identities, encoding, shard_size, overwrite):
    if encoding not in ENCODINGS:
        raise DatasetError(f'encoding is {encoding!r}; it must be one of {ENCODINGS}.')
    if shard_size < 1:
        raise DatasetError(f'shard_size is {shard_size}; it must be at least 1.')
    if not splits:
        raise DatasetError(f'No splits were given for {directory}.')
    for name in splits:
        # TFDS reads `train-…` as the split `train` and `all` as every split.
        if not re.fullmatch(r'[A-Za-z]\w*', name, re.ASCII) or name == 'all':
            raise DatasetError(
                f'A split cannot be called {name!r}: use letters, digits and _, '
                'beginning with a letter, and not `all`.'
            )
    if set(identities) != set(splits):
        raise DatasetError(
            f'identities has the splits {", ".join(identities)}; expected '
            f'{", ".join(splits)}.'
        )
    for name, names in identities.items():
        if len(set(names)) != len(names):
            raise DatasetError(f'identities[{name!r}] has a name twice.')
    if directory.exists() and not directory.is_dir():
        raise DatasetError(f'{directory} is a file; expected a directory.')
    if (directory / SIDECAR).exists() and not overwrite:
        raise DatasetError(
            f'{directory} already holds a data set; choose another directory or set '
            'overwrite.'
        )


def _checked(faces, split, keys):
    for face in faces:
        if face.key in keys:
            raise DatasetError(f'The key {face.key!r} occurs twice (split {split!r}).')
        keys.add(face.key)
        yield face


def _encode(face, encoding):
    if isinstance(face.image, bytes):
        _check_encoded(face, encoding)
        return face, face.image
    try:
        return face, records.encode_image(face.image, encoding)
    except DatasetError as error:
        raise DatasetError(f'{face.key}: {error}') from error


def _check_encoded(face, encoding):
    try:
        with Image.open(io.BytesIO(face.image)) as image:
            found = (str(image.format).lower(), image.height, image.width)
    # Pillow raises many kinds of error for damaged files.
    except Exception as error:
        raise DatasetError(f'{face.key}: its bytes are not an image.') from error
    if found != (encoding, HEIGHT, WIDTH):
        raise DatasetError(
            f'{face.key}: its bytes are a {found[0]} image of {found[1]}×{found[2]} '
            f'(height×width); expected {encoding} of {HEIGHT}×{WIDTH}.'
        )


def _write_split(unfinished, name, faces, identities, encoding, shard_size):
    """Writes the shards of one split; returns its entry in `faces.json`."""
    tf = runtime.import_tensorflow()
    encoded = runtime.ordered_map(
        functools.partial(_encode, encoding=encoding), faces, workers=runtime.num_cpus()
    )
    labels = {identity: i for i, identity in enumerate(identities)}
    paths: list[pathlib.Path] = []
    counts: list[int] = []
    with contextlib.closing(encoded), contextlib.ExitStack() as shard:
        for face, image in encoded:
            if face.name not in labels:
                raise DatasetError(
                    f'{face.key}: its identity {face.name!r} is not in '
                    f'identities[{name!r}].'
                )
            if not counts or counts[-1] == shard_size:
                shard.close()
                paths.append(unfinished / f'{name}-{len(paths):05d}')
                counts.append(0)
                writer = tf.io.TFRecordWriter(os.fspath(paths[-1]))
                shard.enter_context(writer)
            writer.write(_serialised(tf, face, image, labels[face.name]))
            counts[-1] += 1
    if not paths:
        raise DatasetError(f'The split {name!r} has no faces; leave it out.')
    entries = []
    for i, (path, examples) in enumerate(zip(paths, counts, strict=True)):
        final = f'{_DATASET}-{name}.tfrecord-{i:05d}-of-{len(paths):05d}'
        size = path.rename(unfinished / final).stat().st_size
        entries.append({'file': final, 'bytes': size, 'examples': examples})
    return {'identities': list(identities), 'shards': entries}


def _serialised(tf, face, image, label):
    example = tf.train.Example()
    feature = example.features.feature
    feature['image'].bytes_list.value.append(image)
    feature['label'].int64_list.value.append(label)
    for name in ('name', 'key', 'source'):
        feature[name].bytes_list.value.append(getattr(face, name).encode())
    # By default, the order of the features differs each time.
    return example.SerializeToString(deterministic=True)


def _publish(unfinished, directory):
    """Moves a complete data set into place, over an earlier one or parts of one."""
    for pattern in (SIDECAR, *records.TFDS_FILES, f'{_DATASET}-*.tfrecord-*-of-*'):
        for path in directory.glob(pattern):
            path.unlink()
    for path in sorted(unfinished.iterdir(), key=lambda path: path.name == SIDECAR):
        path.replace(directory / path.name)


def _write_metadata(directory, sidecar):
    """Writes TFDS' metadata, for `builder_from_directory`, and `faces.json`."""
    runtime.import_tensorflow()
    import tensorflow_datasets as tfds

    num_classes = max(len(split['identities']) for split in sidecar['splits'].values())
    template = tfds.core.ShardedFileTemplate(
        data_dir=directory, dataset_name=_DATASET, filetype_suffix='tfrecord'
    )
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features={
            'image': tfds.features.Image(
                shape=(*sidecar['image_size'], 3), encoding_format=sidecar['encoding']
            ),
            # Without names, because the name of label i differs between splits.
            'label': tfds.features.ClassLabel(num_classes=num_classes),
            **{field: tfds.features.Text() for field in ('name', 'key', 'source')},
        },
        split_infos=[
            tfds.core.SplitInfo(
                name=name,
                shard_lengths=[shard['examples'] for shard in split['shards']],
                num_bytes=sum(shard['bytes'] for shard in split['shards']),
                filename_template=template,
            )
            for name, split in sidecar['splits'].items()
        ],
        check_data=False,
    )
    (directory / SIDECAR).write_bytes(encode_json(sidecar, indent=1))
