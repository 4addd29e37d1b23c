"""The data set on disk: TFRecord shards, TFDS metadata and `faces.json`.

A data set is one directory:

    faces-train.tfrecord-00000-of-00003 …   `tf.Example`s: image (PNG or JPEG bytes),
    faces-test.tfrecord-00000-of-00001 …    label (int64), name, key, source (bytes)
    dataset_info.json, features.json        TFDS metadata: `builder_from_directory`
    faces.json                              what TFDS does not hold, written last

Labels count from 0 in every split on its own: training and test identities are
different people. A directory without `faces.json` is not (or not yet) a data set.
"""

import contextlib
import dataclasses
import functools
import io
import json
import os
import pathlib
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from google.protobuf.message import DecodeError
from PIL import Image

from sicnn_jax.data import runtime, tfds_metadata
from sicnn_jax.template import HEIGHT, WIDTH

ENCODINGS = ('png', 'jpeg')
SIDECAR = 'faces.json'
# Larger images are refused undecoded: a few kilobytes can claim to be gigapixels. It is
# what Pillow warns from, but stays where an application turns that warning off.
MAX_PIXELS = 1024**3 // 4 // 3

_DATASET = 'faces'
_FORMAT = 'sicnn_jax.faces'
_VERSION = 1
_UNFINISHED = '.unfinished'
_JPEG_QUALITY = 95
# Level 1 makes files 6% larger than the default 6 in a third of the time.
_PNG_COMPRESSION = 1

_Image = TypeVar('_Image', bound=np.ndarray | bytes, covariant=True)


class DatasetError(ValueError):
    """A data set on disk, or what was to become one, is not as it should be."""


@dataclasses.dataclass(frozen=True)
class Face(Generic[_Image]):
    """One aligned face.

    Attributes:
      image: uint8 [112, 96, 3] RGB, or the bytes of a PNG or JPEG file of that size.
      name: the identity.
      key: unique in the data set, such as the path relative to its source.
      source: where it comes from, such as `lfw`.
    """

    image: _Image
    name: str
    key: str
    source: str = ''


@dataclasses.dataclass(frozen=True)
class SplitInfo:
    """One split: how much there is and where.

    Attributes:
      num_examples: faces.
      identity_names: the identity of label i at position i.
      shards: paths, in order.
      shard_examples: faces in each shard.
      shard_bytes: size of each shard.
    """

    num_examples: int
    identity_names: tuple[str, ...]
    shards: tuple[pathlib.Path, ...]
    shard_examples: tuple[int, ...]
    shard_bytes: tuple[int, ...]

    @property
    def num_identities(self) -> int:
        return len(self.identity_names)


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What `faces.json` says of a data set.

    Attributes:
      directory: where it is.
      splits: by name.
      image_size: (height, width) in pixels.
      encoding: `png` or `jpeg`.
      alignment: how faces were brought into place, as told to `write_dataset`.
    """

    directory: pathlib.Path
    splits: Mapping[str, SplitInfo]
    image_size: tuple[int, int]
    encoding: str
    alignment: Any

    def split(self, name: str) -> SplitInfo:
        """The split of that name. Raises DatasetError that lists what there is."""
        if name not in self.splits:
            raise DatasetError(
                f'{self.directory} has no split {name!r}; it has '
                f'{", ".join(sorted(self.splits))}.'
            )
        return self.splits[name]


def write_dataset(
    directory: str | os.PathLike,
    splits: Mapping[str, Iterable[Face]],
    *,
    alignment: Any,
    identities: Mapping[str, Sequence[str]] | None = None,
    encoding: str = 'png',
    shard_size: int = 4096,
    overwrite: bool = False,
) -> DatasetInfo:
    """Writes a data set; faces stream through, a few dozen in memory at a time.

    Shards are written aside and moved into place when all are complete, `faces.json`
    last, so that whatever happens there is the old data set, the new one, or none.

    Args:
      directory: made if absent.
      splits: faces by name of the split, each iterable read once, in order.
      alignment: how faces were brought into place, kept as is; anything JSON holds.
      identities: by split, the identity names in the order of their labels; they may
        be more than occur. By default, those that occur, sorted.
      encoding: `png` (exact) or `jpeg` (quality 95, colour at full resolution).
        Faces given as bytes must have it already.
      shard_size: faces in a shard.
      overwrite: replace a finished data set.

    Returns:
      What `read_dataset_info` returns for it.

    Raises:
      DatasetError: a data set is there and `overwrite` is not set, or a face has the
        wrong shape, dtype or encoding, a key seen before or an identity not in
        `identities`, or a split is empty or its name no name.
    """
    directory = pathlib.Path(directory)
    identities = identities or {}
    _check_request(directory, splits, identities, encoding, shard_size, overwrite)
    sidecar = {
        'format': _FORMAT,
        'version': _VERSION,
        'image_size': [HEIGHT, WIDTH],
        'colour_order': 'RGB',
        'encoding': encoding,
        'alignment': alignment,
        'splits': {},
    }
    json.dumps(sidecar)  # Not after hours of writing: alignment may not be JSON.
    existed = directory.exists()
    unfinished = directory / _UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        keys: set[str] = set()
        for name, faces in splits.items():
            sidecar['splits'][name] = _write_split(
                unfinished,
                name,
                _checked(faces, name, keys),
                identities.get(name),
                encoding,
                shard_size,
            )
        tfds_metadata.write(unfinished, _DATASET, sidecar)
        _write_sidecar(unfinished, sidecar)
        _publish(unfinished, directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not existed:
            # Only where nothing was written: a directory with files in it stays.
            with contextlib.suppress(OSError):
                directory.rmdir()
    return read_dataset_info(directory)


def read_dataset_info(
    directory: str | os.PathLike, *, check_shards: bool = True
) -> DatasetInfo:
    """Opens a data set: reads `faces.json` and checks by `stat` that all is there.

    Args:
      directory: of the data set.
      check_shards: whether every shard must be there and have its size.

    Raises:
      DatasetError: the directory or its metadata is missing, of another version or
        image size, or a shard is missing, empty, cut short or too long.
    """
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        raise DatasetError(
            f'{directory} is not a directory; expected a data set written by '
            'sicnn_jax.data.prepare.'
        )
    sidecar = _read_sidecar(directory)
    for name in tfds_metadata.FILES:
        if not (directory / name).is_file():
            raise DatasetError(
                f'{directory / name} is missing; copy the whole data set or prepare '
                'it again.'
            )
    try:
        splits = {
            name: _split_info(directory, split)
            for name, split in sidecar['splits'].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f'{directory / SIDECAR} is damaged ({error!r}); prepare the data set again.'
        ) from error
    for split in splits.values() if check_shards else ():
        for path, size in zip(split.shards, split.shard_bytes, strict=True):
            _check_shard(path, size)
    return DatasetInfo(
        directory=directory,
        splits=splits,
        image_size=tuple(sidecar['image_size']),
        encoding=sidecar['encoding'],
        alignment=sidecar['alignment'],
    )


def fingerprint(directory: str | os.PathLike) -> str:
    """What tells a data set from another: the CRC-32 of its `faces.json`, in which are
    the identities and the size of every shard. Eight hexadecimal digits.
    """
    path = pathlib.Path(directory) / SIDECAR
    return f'{zlib.crc32(path.read_bytes()):08x}'


def write_changed(
    directory: pathlib.Path, out: pathlib.Path, shards: Mapping[str, Mapping[str, int]]
) -> None:
    """Writes the metadata of a data set of which some shards are others.

    Args:
      directory: of the data set.
      out: where the shards are that the metadata is for.
      shards: `bytes` and `examples` of those that are others, by name.
    """
    sidecar = _read_sidecar(directory)
    for split in sidecar['splits'].values():
        for shard in split['shards']:
            shard.update(shards.get(shard['file'], {}))
    tfds_metadata.write(out, _DATASET, sidecar)
    _write_sidecar(out, sidecar)


def read_faces(directory: str | os.PathLike, split: str) -> Iterator[Face[bytes]]:
    """The faces of a split in file order, their images as encoded bytes.

    Raises:
      DatasetError: as `read_dataset_info`, at once; or, on the way, that a shard is
        damaged inside.
    """
    info = read_dataset_info(directory)
    return _read_faces(info.split(split))


def read_keys(directory: str | os.PathLike, split: str) -> list[str]:
    """The keys of a split in file order, that of `pipeline.eval_batches`.

    Raises:
      DatasetError: as `read_faces`.
    """
    return [face.key for face in read_faces(directory, split)]


def encode_image(image: np.ndarray, encoding: str) -> bytes:
    """The bytes of a `png` (exact) or `jpeg` file (quality 95) of a face.

    Raises:
      DatasetError: it is not uint8 [112, 96, 3].
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.shape != (HEIGHT, WIDTH, 3):
        raise DatasetError(
            f'The image is {image.dtype} {list(image.shape)}; expected '
            f'uint8 [{HEIGHT}, {WIDTH}, 3] (height, width, RGB).'
        )
    buffer = io.BytesIO()
    options = (
        {'compress_level': _PNG_COMPRESSION}
        if encoding == 'png'
        else {'quality': _JPEG_QUALITY, 'subsampling': 0}
    )
    Image.fromarray(image).save(buffer, encoding, **options)
    return buffer.getvalue()


def decode_image(encoded: bytes) -> np.ndarray:
    """uint8 [height, width, 3] from PNG or JPEG bytes.

    Raises:
      DatasetError: they are not a complete image, or one of more than `MAX_PIXELS`,
        which is not decoded.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=ENCODINGS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f'{image.width}×{image.height} pixels are too many')
            return np.asarray(image.convert('RGB'))
    # Pillow raises errors of many kinds on damaged files.
    except Exception as error:
        raise DatasetError(f'Not a complete PNG or JPEG image: {error}') from error


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
    for name, names in identities.items():
        if name not in splits:
            raise DatasetError(f'identities has {name!r}, which splits has not.')
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


def _encode(face: Face, encoding: str) -> tuple[Face, bytes]:
    if isinstance(face.image, bytes):
        _check_encoded(face, encoding)
        return face, face.image
    try:
        return face, encode_image(face.image, encoding)
    except DatasetError as error:
        raise DatasetError(f'{face.key}: {error}') from error


def _check_encoded(face, encoding):
    try:
        with Image.open(io.BytesIO(face.image)) as image:
            found = (str(image.format).lower(), image.height, image.width)
    # As above.
    except Exception as error:
        raise DatasetError(f'{face.key}: its bytes are not an image.') from error
    if found != (encoding, HEIGHT, WIDTH):
        raise DatasetError(
            f'{face.key}: its bytes are a {found[0]} image of {found[1]}×{found[2]} '
            f'(height×width); expected {encoding} of {HEIGHT}×{WIDTH}.'
        )


def _write_split(unfinished, name, faces, given, encoding, shard_size):
    """Writes the shards of one split; returns its entry in `faces.json`."""
    tf = runtime.import_tensorflow()
    encoded = runtime.ordered_map(
        functools.partial(_encode, encoding=encoding), faces, workers=runtime.num_cpus()
    )
    labels = {identity: i for i, identity in enumerate(given or ())}
    paths: list[pathlib.Path] = []
    counts: list[int] = []
    writer = None
    with contextlib.closing(encoded):
        try:
            for face, image in encoded:
                if given is not None and face.name not in labels:
                    raise DatasetError(
                        f'{face.key}: its identity {face.name!r} is not in '
                        f'identities[{name!r}].'
                    )
                if writer is None:
                    paths.append(unfinished / f'{name}-{len(paths):05d}')
                    counts.append(0)
                    writer = tf.io.TFRecordWriter(os.fspath(paths[-1]))
                label = labels.setdefault(face.name, len(labels))
                writer.write(_serialised(_example(tf, face, image, label)))
                counts[-1] += 1
                if counts[-1] == shard_size:
                    writer.close()
                    writer = None
        finally:
            if writer is not None:
                writer.close()
    if not paths:
        raise DatasetError(f'The split {name!r} has no faces; leave it out.')
    names = list(labels)
    if given is None and names != sorted(names):
        # The order was not known while the faces went by: write their labels anew.
        names.sort()
        _relabel(tf, paths, {labels[name]: i for i, name in enumerate(names)})
    entries = []
    for i, (path, examples) in enumerate(zip(paths, counts, strict=True)):
        final = f'{_DATASET}-{name}.tfrecord-{i:05d}-of-{len(paths):05d}'
        path = path.rename(unfinished / final)
        size = path.stat().st_size
        entries.append({'file': final, 'bytes': size, 'examples': examples})
    return {'identities': names, 'shards': entries}


def _example(tf, face, image, label):
    def feature(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    return tf.train.Example(
        features=tf.train.Features(
            feature={
                'image': feature(image),
                'label': tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                'name': feature(face.name.encode()),
                'key': feature(face.key.encode()),
                'source': feature(face.source.encode()),
            }
        )
    )


def _serialised(example):
    # By default the order of the features is another each time.
    return example.SerializeToString(deterministic=True)


def _relabel(tf, paths, labels):
    for path in paths:
        rewritten = path.with_name(path.name + '-rewritten')
        with tf.io.TFRecordWriter(os.fspath(rewritten)) as writer:
            shard = tf.data.TFRecordDataset(os.fspath(path))
            for serialised in shard.as_numpy_iterator():
                example = tf.train.Example.FromString(serialised)
                value = example.features.feature['label'].int64_list.value
                value[0] = labels[value[0]]
                writer.write(_serialised(example))
        rewritten.replace(path)


def _publish(unfinished, directory):
    """Puts a complete data set in the place of an earlier one, or parts of one."""
    for pattern in (SIDECAR, *tfds_metadata.FILES, f'{_DATASET}-*.tfrecord-*-of-*'):
        for path in directory.glob(pattern):
            path.unlink()
    for path in sorted(unfinished.iterdir(), key=lambda path: path.name == SIDECAR):
        path.replace(directory / path.name)


def _write_sidecar(directory, sidecar):
    (directory / SIDECAR).write_text(
        json.dumps(sidecar, indent=1, ensure_ascii=False), encoding='utf-8'
    )


def _read_sidecar(directory):
    path = directory / SIDECAR
    if not path.is_file():
        raise DatasetError(
            f'{path} is missing: {directory} is not a data set, or writing it was '
            'interrupted; prepare it again.'
        )
    try:
        sidecar = json.loads(path.read_text(encoding='utf-8'))
        found = sidecar['format'], sidecar['version']
        size = list(sidecar['image_size'])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(
            f'{path} is damaged ({error!r}); prepare the data set again.'
        ) from error
    if found != (_FORMAT, _VERSION):
        raise DatasetError(
            f'{path} is {found[0]!r} version {found[1]!r}; this program reads '
            f'{_FORMAT!r} version {_VERSION}. Prepare the data set again.'
        )
    if size != [HEIGHT, WIDTH] or sidecar.get('colour_order') != 'RGB':
        raise DatasetError(
            f'{path}: images are {size} {sidecar.get("colour_order")}; expected '
            f'{[HEIGHT, WIDTH]} (height, width) RGB. Prepare the data set again.'
        )
    missing = {'encoding', 'alignment', 'splits'} - set(sidecar)
    if missing:
        raise DatasetError(
            f'{path} lacks {", ".join(sorted(missing))}; prepare the data set again.'
        )
    if sidecar['encoding'] not in ENCODINGS:
        raise DatasetError(
            f'{path}: the encoding is {sidecar["encoding"]!r}; expected one of '
            f'{", ".join(ENCODINGS)}. Prepare the data set again.'
        )
    return sidecar


def _split_info(directory, split):
    shards, identities = split['shards'], split['identities']
    if {type(identities), *map(type, identities)} != {list, str}:
        raise TypeError('identities are no names')
    sizes = [shard[size] for shard in shards for size in ('examples', 'bytes')]
    if any(type(size) is not int or size < 0 for size in sizes):
        raise TypeError('the size of a shard is no number')
    for shard in shards:
        # The file may be of others: it is not to make us read elsewhere.
        if pathlib.PurePath(shard['file']).name != shard['file']:
            raise DatasetError(
                f'{directory / SIDECAR}: the shard {shard["file"]!r} is not beside it; '
                'expected the name of a file. Prepare the data set again.'
            )
    if not any(shard['examples'] for shard in shards):
        raise TypeError('a split has no faces')
    return SplitInfo(
        num_examples=sum(shard['examples'] for shard in shards),
        identity_names=tuple(identities),
        shards=tuple(directory / shard['file'] for shard in shards),
        shard_examples=tuple(shard['examples'] for shard in shards),
        shard_bytes=tuple(shard['bytes'] for shard in shards),
    )


def _check_shard(path, size):
    # Unlike `Path.is_file` it also says so of a name that no file can have.
    found = path.stat().st_size if os.path.isfile(path) else None
    if found == size:
        return
    if found is None:
        problem = 'is missing'
    elif found == 0:
        problem = 'is empty'
    else:
        problem = 'is cut short' if found < size else 'is too long'
    raise DatasetError(
        f'{path} {problem}: {found or 0} bytes, expected {size}. Copy it again or '
        'prepare the data set again.'
    )


def _read_faces(split):
    tf = runtime.import_tensorflow()
    for path, examples in zip(split.shards, split.shard_examples, strict=True):
        count = 0
        try:
            shard = tf.data.TFRecordDataset(os.fspath(path))
            for serialised in shard.as_numpy_iterator():
                face = _face(tf, serialised)
                count += 1
                yield face
        # What is no example at all, has no such field or no text in it.
        except (tf.errors.OpError, DecodeError, IndexError, UnicodeError) as error:
            raise DatasetError(
                f'{path} is damaged after {count} records; copy it again or prepare '
                'the data set again.'
            ) from error
        if count != examples:
            raise DatasetError(
                f'{path} has {count} records; expected {examples}, as {SIDECAR} says. '
                'Copy both again or prepare the data set again.'
            )


def _face(tf, serialised):
    feature = tf.train.Example.FromString(serialised).features.feature
    image, *texts = (
        feature[name].bytes_list.value[0] for name in ('image', 'name', 'key', 'source')
    )
    return Face(image, *(text.decode() for text in texts))
