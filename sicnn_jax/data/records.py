"""The data set on disk: TFRecord shards, TFDS metadata and `faces.json`.

A data set is one directory:

    faces-train.tfrecord-00000-of-00003 …   `tf.Example`s: image (PNG or JPEG bytes),
    faces-test.tfrecord-00000-of-00001 …    label (int64), name, key, source (bytes)
    dataset_info.json, features.json        TFDS metadata: `builder_from_directory`
    faces.json                              what TFDS does not hold, written last

Labels start from 0 in every split: training and test identities are different people.
A directory without `faces.json` is not (or not yet) a data set.
"""

import dataclasses
import io
import json
import os
import pathlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from google.protobuf.message import DecodeError
from PIL import Image

from sicnn_jax import paths
from sicnn_jax.data import runtime
from sicnn_jax.template import HEIGHT, WIDTH

__all__ = [
    'ENCODINGS',
    'MAX_PIXELS',
    'SIDECAR',
    'DatasetError',
    'DatasetInfo',
    'Face',
    'SplitInfo',
    'decode_image',
    'encode_image',
    'fingerprint',
    'read_dataset_info',
    'read_faces',
    'read_keys',
    'read_sidecar',
]

ENCODINGS = ('png', 'jpeg')
SIDECAR = 'faces.json'
TFDS_FILES = ('dataset_info.json', 'features.json')
# Fields of `faces.json` that are the same in every data set.
FIXED: dict[str, Any] = {
    'format': 'sicnn_jax.faces',
    'version': 1,
    'image_size': [HEIGHT, WIDTH],
    'colour_order': 'RGB',
}
# Larger images are refused undecoded: a few kilobytes can claim to be gigapixels.
# Pillow warns from the same size on, but an application may turn its warning off.
MAX_PIXELS = 1024**3 // 4 // 3

_Image = TypeVar('_Image', bound=np.ndarray | bytes, covariant=True)


class DatasetError(ValueError):
    """A data set on disk, or its source, is missing, damaged or unsuitable."""


@dataclasses.dataclass(frozen=True)
class Face(Generic[_Image]):
    """One aligned face.

    Attributes:
      image: uint8 [112, 96, 3] RGB, or the bytes of a PNG or JPEG file of that size.
      name: the identity.
      key: unique in the data set, such as the path relative to its source.
      source: its origin, such as `lfw`.
    """

    image: _Image
    name: str
    key: str
    source: str = ''


@dataclasses.dataclass(frozen=True)
class SplitInfo:
    """The faces, identities and shards of one split.

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
    """The content of a data set's `faces.json`.

    Attributes:
      directory: of the data set.
      splits: by name.
      encoding: `png` or `jpeg`.
      alignment: how faces were brought into place, as the writer described it.
    """

    directory: pathlib.Path
    splits: Mapping[str, SplitInfo]
    encoding: str
    alignment: Any

    def split(self, name: str) -> SplitInfo:
        """The split of that name. Raises DatasetError, which lists the others."""
        if name not in self.splits:
            raise DatasetError(
                f'{self.directory} has no split {name!r}; it has '
                f'{", ".join(sorted(self.splits))}.'
            )
        return self.splits[name]


def read_dataset_info(
    directory: str | os.PathLike, *, check_shards: bool = True
) -> DatasetInfo:
    """Opens a data set: reads `faces.json`, and checks by `stat` that it is complete.

    Args:
      directory: of the data set.
      check_shards: whether every shard must exist and have its size.

    Raises:
      DatasetError: the directory or its metadata is missing, of another version or
        image size, or a shard is missing, empty, cut short or too long.
    """
    directory = paths.in_utf8(paths.local(directory))
    if not directory.is_dir():
        raise DatasetError(
            f'{directory} is not a directory; expected a data set written by '
            'sicnn_jax.data.prepare.'
        )
    sidecar = read_sidecar(directory)
    for name in TFDS_FILES:
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
        info = DatasetInfo(directory, splits, sidecar['encoding'], sidecar['alignment'])
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f'{directory / SIDECAR} is damaged ({error!r}); prepare the data set again.'
        ) from error
    for split in info.splits.values() if check_shards else ():
        for path, size in zip(split.shards, split.shard_bytes, strict=True):
            _check_shard(path, size)
    return info


def fingerprint(directory: str | os.PathLike) -> str:
    """Tells data sets apart: the CRC-32 of `faces.json`, which has the identities and
    the size of every shard. Eight hexadecimal digits.
    """
    path = paths.local(directory) / SIDECAR
    return f'{zlib.crc32(path.read_bytes()):08x}'


def read_faces(directory: str | os.PathLike, split: str) -> Iterator[Face[bytes]]:
    """The faces of a split in file order, their images as encoded bytes.

    Raises:
      DatasetError: as `read_dataset_info`, raised at once; or a shard is damaged
        inside, raised while iterating.
    """
    return _read_faces(read_dataset_info(directory).split(split))


def read_keys(directory: str | os.PathLike, split: str) -> list[str]:
    """The keys of a split in file order, as in `pipeline.eval_batches`.

    Raises:
      DatasetError: as `read_faces`.
    """
    return [face.key for face in read_faces(directory, split)]


def encode_image(image: np.ndarray, encoding: str) -> bytes:
    """The bytes of a `png` (exact) or `jpeg` file (quality 95) of a face.

    Raises:
      DatasetError: the face is not uint8 [112, 96, 3].
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.shape != (HEIGHT, WIDTH, 3):
        raise DatasetError(
            f'The image is {image.dtype} {list(image.shape)}; expected '
            f'uint8 [{HEIGHT}, {WIDTH}, 3] (height, width, RGB).'
        )
    buffer = io.BytesIO()
    # For PNG, level 1 takes a third of the time of the default 6, and makes files 6%
    # larger. The other options are those of JPEG.
    options = {'compress_level': 1, 'quality': 95, 'subsampling': 0}
    Image.fromarray(image).save(buffer, encoding, **options)
    return buffer.getvalue()


def decode_image(encoded: bytes) -> np.ndarray:
    """uint8 [height, width, 3] from PNG or JPEG bytes.

    Raises:
      DatasetError: they are not a complete image, or the image has more than
        `MAX_PIXELS` and is not decoded.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=ENCODINGS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f'{image.width}×{image.height} pixels are more than {MAX_PIXELS:,}'
                )
            return np.asarray(image.convert('RGB'))
    # Pillow raises many kinds of error for damaged files.
    except Exception as error:
        raise DatasetError(f'Not a complete PNG or JPEG image: {error}') from error


def read_sidecar(directory: pathlib.Path) -> dict[str, Any]:
    """The content of `faces.json`; raises DatasetError as `read_dataset_info`."""
    path = directory / SIDECAR
    if not path.is_file():
        raise DatasetError(
            f'{path} is missing: {directory} is not a data set, or writing it was '
            'interrupted; prepare it again.'
        )
    try:
        sidecar = dict(json.loads(path.read_text(encoding='utf-8')))
    except (ValueError, TypeError, RecursionError) as error:
        raise DatasetError(
            f'{path} is damaged ({error!r}); prepare the data set again.'
        ) from error
    allowed = {field: (value,) for field, value in FIXED.items()}
    for field, choices in (allowed | {'encoding': ENCODINGS}).items():
        found = sidecar.get(field)
        if found not in choices:
            raise DatasetError(
                f'{path}: {field} is {found!r}; expected '
                f'{" or ".join(map(str, choices))}. Prepare the data set again.'
            )
    return sidecar


def _split_info(directory, split):
    shards, identities = split['shards'], split['identities']
    if {type(identities), *map(type, identities)} != {list, str}:
        raise TypeError('identities are not names')
    examples = tuple(shard['examples'] for shard in shards)
    sizes = tuple(shard['bytes'] for shard in shards)
    if any(type(size) is not int or size < 0 for size in examples + sizes):
        raise TypeError('the size of a shard is not a number')
    for shard in shards:
        # The file may be from strangers, and must not make us read elsewhere.
        if pathlib.PurePath(shard['file']).name != shard['file']:
            raise DatasetError(
                f'{directory / SIDECAR}: the shard {shard["file"]!r} is not a plain '
                'file name; expected a file next to it. Prepare the data set again.'
            )
    if not any(examples):
        raise TypeError('a split has no faces')
    files = tuple(directory / shard['file'] for shard in shards)
    return SplitInfo(sum(examples), tuple(identities), files, examples, sizes)


def _check_shard(path, size):
    # Unlike `Path.is_file`, this also works for a name that no file can have.
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
        # The record is not an example, lacks a field, or its text is not UTF-8.
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
    names = ('image', 'name', 'key', 'source')
    image, *texts = (feature[name].bytes_list.value[0] for name in names)
    return Face(image, *(text.decode() for text in texts))
