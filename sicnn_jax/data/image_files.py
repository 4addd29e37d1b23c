"""Images of files, bytes or RecordIO sets, as RGB."""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from sicnn_jax import text_files
from sicnn_jax.data import decoding, recordio, records
from sicnn_jax.data.records import DatasetError

# What is in a file decides, not its name; and nothing that Pillow would hand to
# another program, as it does PostScript.
_FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
# An image: the path of its file, its bytes, or its place in a RecordIO file.
Content = str | bytes | recordio.Part
_JPEG = b'\xff\xd8\xff'
# JPEG is decoded at half its size without more memory, so that twice as many pixels
# each way are read.
_REDUCTION = 2


class Picture(NamedTuple):
    """An image, and how many pixels of its file, each way, one of its pixels is of.

    Points are (x, y); the centre of the first pixel is (0, 0).
    """

    pixels: np.ndarray
    reduced: int = 1

    def from_file(self, points: np.ndarray) -> np.ndarray:
        """Points in pixels of the file, in pixels of this image."""
        return (points + 0.5) / self.reduced - 0.5 if self.reduced > 1 else points

    def to_file(self, points: np.ndarray) -> np.ndarray:
        """Points in pixels of this image, in pixels of the file."""
        return (points + 0.5) * self.reduced - 0.5 if self.reduced > 1 else points


def path_below(root: str | os.PathLike, path: str) -> str:
    """The absolute path of a file that a list of others names.

    Args:
      root: the directory below which it has to be.
      path: relative to it, or absolute.

    Raises:
      DatasetError: it is elsewhere.
    """
    root = os.path.abspath(root)
    # Joining leaves a path that is absolute as it is.
    file = os.path.normpath(os.path.join(root, text_files.file_name(path)))
    if os.path.commonpath([root, file]) != root:
        raise DatasetError(
            f'{path} is not below {root}, and a list is not to read what it likes.'
        )
    return file


def load_image(content: Content, key: str | None = None) -> np.ndarray:
    """The pixels of `load_picture`, where no points of the file are needed."""
    return load_picture(content, key).pixels


def load_picture(content: Content, key: str | None = None) -> Picture:
    """An image as uint8 [height, width, 3] RGB, upright.

    Colours of another profile become those of sRGB; grey, palette, CMYK and 16-bit
    images are converted, the orientation in EXIF is applied, transparent parts become
    white; of an animation it is the first frame. JPEG of more than
    `records.MAX_PIXELS` is read at half its height and width.

    Args:
      content: of the image.
      key: what errors call it; by default its path.

    Raises:
      DatasetError: the file is missing, cut short, of a kind that is not known or of
        more than `records.MAX_PIXELS`; of JPEG, four times as many.
    """
    key = key or str(content)
    try:
        with _opened(content) as image:
            reduced = _reduce(image)
            return Picture(np.asarray(decoding.decode(image)), reduced)
    except UnidentifiedImageError as error:
        raise DatasetError(
            f'{key} cannot be read as an image: it is none of {", ".join(_FORMATS)}'
        ) from error
    # Pillow raises errors of many kinds on damaged files (OSError, SyntaxError,
    # struct.error, …); all of them mean the same here.
    except Exception as error:
        raise DatasetError(f'{key} cannot be read as an image: {error}') from error


@contextlib.contextmanager
def _opened(content: Content) -> Iterator[Image.Image]:
    if isinstance(content, recordio.Part):
        content = content.read()
    with _stream(content) as file:
        is_jpeg = file.read(len(_JPEG)) == _JPEG
        file.seek(0)
        if is_jpeg:
            # As Image.open does, but for its limit, which is twice Pillow's warning.
            image = _open_jpeg(file)
        else:
            try:
                image = Image.open(file, formats=_FORMATS)
            except Image.DecompressionBombError as error:
                raise ValueError(f'it has too many pixels, {_limit()}') from error
        with image:
            yield image


def _stream(content: str | bytes) -> BinaryIO:
    return io.BytesIO(content) if isinstance(content, bytes) else open(content, 'rb')


def _open_jpeg(file):
    try:
        return JpegImagePlugin.jpeg_factory(file)
    except SyntaxError as error:
        raise UnidentifiedImageError(str(error)) from error


def _reduce(image):
    """Has a JPEG that is too large decoded at half its size; by how much, each way."""
    width, height = image.size
    # Pillow only warns of so many, and a filter of warnings is one for all threads.
    if width * height <= records.MAX_PIXELS:
        return 1
    reduced = (-(-width // _REDUCTION), -(-height // _REDUCTION))
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft(None, (width // _REDUCTION, height // _REDUCTION))
    if image.size != reduced or reduced[0] * reduced[1] > records.MAX_PIXELS:
        raise ValueError(f'it has {width}×{height} pixels, {_limit()}')
    return _REDUCTION


def _limit():
    return (
        f'and more than {records.MAX_PIXELS:,} are read of no image (of JPEG '
        f'{_REDUCTION**2 * records.MAX_PIXELS:,}, at half the size): make it smaller'
    )
