"""InsightFace's formats, without MXNet: RecordIO sets and `.bin` verification sets.

A RecordIO set is `train.rec`, records one after the other; `train.idx`, lines with the
number of a record and its position; and `property`, one line `identities,height,width`.
A `.bin` is a pickle of encoded images and of whether the images of each pair show one
person; it is read without running functions that a pickle could call.
"""

import os
import pathlib
import struct
from typing import BinaryIO, NamedTuple

import numpy as np

from sicnn_jax import text_files
from sicnn_jax.data import bin_pickle
from sicnn_jax.data.records import DatasetError

_MAGIC = 0xCED7230A
_RECORD = struct.Struct('<II')
# IRHeader: flag, label, id, id2; where the flag is n > 0, n more floats are the label.
_HEADER = struct.Struct('<IfQQ')
_LENGTH_BITS = 29
# The largest size of a file: with a record added, `seek` still accepts the number.
_LARGEST = 2**62


class Part(NamedTuple):
    """The place of an image: the record that begins at `offset` of a file."""

    path: str
    offset: int

    def read(self) -> bytes:
        """The encoded image. Raises DatasetError if the record is damaged."""
        with open(self.path, 'rb') as file:
            return _read_record(file, self.offset)[1]


def read_index(path: str | os.PathLike) -> tuple[list[Part], list[int]]:
    """The images of a RecordIO set.

    Args:
      path: of the `.rec` file; `.idx` and `property` lie next to it.

    Returns:
      The place of each image and the number of its identity, in the order of the index.

    Raises:
      DatasetError: a file is missing or damaged, or a label is out of the range that
        `property` gives.
    """
    path = pathlib.Path(path)
    offsets = _read_offsets(path.with_suffix('.idx'))
    identities = _read_property(path.with_name('property'))
    parts, labels = [], []
    try:
        with path.open('rb') as file:
            for number in _image_numbers(file, offsets, path):
                label = _read_label(file, offsets[number])
                # Not as `label < 0 or …`: it may be NaN.
                if not (0 <= label < identities and label.is_integer()):
                    raise DatasetError(
                        f'{path}, record {number}: the label is {label}; expected a '
                        f'whole number below {identities}, as `property` says.'
                    )
                parts.append(Part(os.fspath(path), offsets[number]))
                labels.append(int(label))
    except OSError as error:
        raise DatasetError(f'{path} cannot be read: {error}') from error
    return parts, labels


def read_bin(path: str | os.PathLike) -> tuple[list[bytes], np.ndarray]:
    """Reads a verification set of InsightFace, such as `lfw.bin`.

    Returns:
      Encoded images (JPEG or PNG, 112×112, aligned), two for each pair, and
      bool [pairs]: whether images 2i and 2i + 1 show one person.

    Raises:
      DatasetError: there is no such file, it holds something else, or it names
        anything except lists, tuples, bytes, booleans, numbers and NumPy arrays.
    """
    try:
        with open(path, 'rb') as file:
            found = bin_pickle.load(file, path)
    except DatasetError:
        raise
    # A damaged pickle raises nearly any error: EOFError, ValueError, KeyError, …
    except Exception as error:
        raise DatasetError(
            f'{path} cannot be read as a verification set: {error}'
        ) from error
    return _check_bin(found, path)


def _read_offsets(path):
    try:
        lines = path.read_text('ascii').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f'{path} cannot be read: {error}') from error
    offsets = {}
    for line, text in enumerate(lines, start=1):
        try:
            number, offset = map(int, text.split())
        except ValueError as error:
            raise DatasetError(
                f'{path}, line {line}: expected the number of a record and its '
                f'position; found {text!r}.'
            ) from error
        if number in offsets:
            raise DatasetError(
                f'{path}, line {line}: record {number} occurs a second time.'
            )
        if not 0 <= offset < _LARGEST:
            raise DatasetError(
                f'{path}, line {line}: no record begins at {offset}; copy it again.'
            )
        offsets[number] = offset
    if not offsets:
        raise DatasetError(f'{path} is empty; copy it again.')
    return offsets


def _read_property(path):
    """The number of identities; infinite if there is no such file."""
    if not path.exists():
        return float('inf')
    try:
        text = text_files.read_text(path).strip()
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path} cannot be read: {error}') from error
    try:
        identities, _, _ = (int(value) for value in text.split(','))
    except ValueError as error:
        raise DatasetError(
            f'{path}: expected `identities,height,width`; found {text!r}.'
        ) from error
    return identities


def _image_numbers(file, offsets, path):
    """The records that are images: all, or those below the label of record 0.

    In InsightFace's sets record 0 has two numbers: records from the first to the
    second are not images but say which images each identity has.
    """
    if 0 not in offsets:
        return list(offsets)
    label, _ = _read_record(file, offsets[0])
    if len(label) == 1:
        return list(offsets)
    images = [number for number in offsets if 0 < number < label[0]]
    if not images:
        raise DatasetError(
            f'{path}, record 0: it says that the images are the records from 1 to '
            f'{label[0] - 1:.0f}, but the index has none of them; copy both again.'
        )
    return images


def _read_label(file, offset):
    """The identity of an image, without reading the image."""
    header = _exactly(file, offset + _RECORD.size, _HEADER.size)
    flag, label, _, _ = _HEADER.unpack(header)
    if flag:
        (label,) = struct.unpack('<f', _exactly(file, None, 4))
    return label


def _read_record(file: BinaryIO, offset: int) -> tuple[np.ndarray, bytes]:
    """The label of a record, float32 [n], and the encoded image that follows it."""
    data = _read_parts(file, offset)
    if len(data) < _HEADER.size:
        raise DatasetError(f'{file.name}: the record at {offset} has no header.')
    flag, label, _, _ = _HEADER.unpack_from(data)
    end = _HEADER.size + 4 * flag
    if len(data) < end:
        raise DatasetError(f'{file.name}: the record at {offset} is cut short.')
    many = np.frombuffer(data[_HEADER.size : end], '<f4')
    return (many if flag else np.array([label], np.float32)), data[end:]


def _read_parts(file, offset):
    """The bytes of a record, which may be in parts.

    The writer cuts a record where it contains the magic number, and leaves that out.
    """
    parts = []
    while True:
        magic, word = _RECORD.unpack(_exactly(file, offset, _RECORD.size))
        if magic != _MAGIC:
            raise DatasetError(
                f'{file.name} has no record at {offset}; it is damaged, or the index '
                'is of another file.'
            )
        length = word & ((1 << _LENGTH_BITS) - 1)
        parts.append(_exactly(file, None, length))
        # 0: whole, 1: the first of several, 2: one in the middle, 3: the last.
        if word >> _LENGTH_BITS in (0, 3):
            return struct.pack('<I', _MAGIC).join(parts)
        offset += _RECORD.size + (length + 3) // 4 * 4


def _exactly(file, offset, size):
    if offset is not None:
        file.seek(offset)
    data = file.read(size)
    if len(data) < size:
        raise DatasetError(f'{file.name} is cut short; copy it again.')
    return data


def _check_bin(found, path):
    try:
        images, same = map(bin_pickle.plain, bin_pickle.plain(found))
        images = map(bin_pickle.plain, images)
        images = [x.tobytes() if isinstance(x, np.ndarray) else x for x in images]
        same = np.asarray(same)
    # An array may lack its content.
    except (AttributeError, TypeError, ValueError) as error:
        raise DatasetError(
            f'{path}: expected a pair of images and booleans; found '
            f'{type(found).__name__}.'
        ) from error
    if not all(isinstance(image, bytes) for image in images):
        raise DatasetError(f'{path}: expected images as bytes; found something else.')
    if same.ndim != 1 or same.dtype.kind not in 'biu' or len(images) != 2 * len(same):
        raise DatasetError(
            f'{path}: expected a boolean for every two images; found {len(images)} '
            f'images and {same.dtype} {list(same.shape)}.'
        )
    if not np.isin(same, (0, 1)).all():
        raise DatasetError(f'{path}: expected booleans; found {same.max()}.')
    return images, same.astype(bool)
