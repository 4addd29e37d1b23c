"""Images of files, bytes or RecordIO sets, as RGB."""

import io
import os
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, JpegImagePlugin, UnidentifiedImageError, features

from sicnn_jax import names, paths
from sicnn_jax.data import decoding, recordio, records
from sicnn_jax.data.records import DatasetError

# The content of a file decides, not its name. Formats that Pillow would hand to another
# program, such as PostScript, are left out.
_FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
# Formats that not every installation reads, by the brand at the start of the file.
_BRANDS = {
    **dict.fromkeys((b'avif', b'avis'), 'AVIF'),
    **dict.fromkeys((b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx'), 'HEIF'),
    **dict.fromkeys((b'mif1', b'msf1'), 'HEIF'),
}
# An image: the path of its file, its bytes, or its place in a RecordIO file.
Content = str | bytes | recordio.Part
# The first bytes of a JPEG; the size of an ISO container's head, with its brand.
_JPEG, _HEAD = b'\xff\xd8\xff', 12
# A large JPEG is decoded at half its size without more memory, so twice as many pixels
# each way can be read.
_REDUCTION = 2


class Picture(NamedTuple):
    """An image, and how many pixels of its file, each way, make one of its pixels.

    Points are (x, y); the centre of the first pixel is (0, 0).
    """

    pixels: np.ndarray
    reduced: int = 1

    def from_file(self, points: np.ndarray) -> np.ndarray:
        """Converts points from pixels of the file to pixels of this image."""
        return (points + 0.5) / self.reduced - 0.5 if self.reduced > 1 else points

    def to_file(self, points: np.ndarray) -> np.ndarray:
        """Converts points from pixels of this image to pixels of the file."""
        return (points + 0.5) * self.reduced - 0.5 if self.reduced > 1 else points


class MissingDecoderError(DatasetError):
    """This installation does not read images of this kind.

    Attributes:
      advice: the kind, and the package that reads it.
    """

    def __init__(self, advice: str, key: str = ''):
        super().__init__(f'{key} cannot be read as an image: {advice}')
        self.advice = advice


def is_image(path: str) -> bool:
    """Whether a file begins like an image, whatever its name.

    A file that cannot be opened counts as an image: reading it raises the error.
    """
    try:
        with _stream(path) as file:
            if _kind(file.read(_HEAD)):
                return True
            file.seek(0)
            with _open(file):
                return True
    except (PermissionError, Image.DecompressionBombError):
        return True
    # Any error, for the reason given in `load_picture`.
    except Exception:
        return False


def path_below(root: str | os.PathLike, path: str) -> str:
    """The absolute path of a file that somebody else's list names.

    Args:
      root: the directory that the file must be below.
      path: relative to it, or absolute, however its names are spelled.

    Raises:
      DatasetError: the file is missing or elsewhere.
    """
    if paths.is_address(path):
        raise DatasetError(f'{path} is not a file: download the files of the list.')
    root = os.path.abspath(root)
    # Joining leaves a path that is absolute as it is.
    file = os.path.normpath(os.path.join(root, path))
    if os.path.commonpath([root, file]) != root:
        raise DatasetError(
            f'{path} is not below {root}; a list may name only files below it.'
        )
    return names.find(file)


def load_image(content: Content, key: str | None = None) -> np.ndarray:
    """The pixels of `load_picture`, for callers that have no points of the file."""
    return load_picture(content, key).pixels


def load_picture(content: Content, key: str | None = None) -> Picture:
    """An image as uint8 [height, width, 3] RGB, upright.

    Colours of another profile are converted to sRGB; grey, palette, CMYK and 16-bit
    images are converted, the orientation in EXIF is applied, transparent parts become
    white; an animation gives its first frame. A JPEG of more than `records.MAX_PIXELS`
    is read at half its height and width.

    Args:
      content: of the image.
      key: its name in errors; by default its path.

    Raises:
      MissingDecoderError: it needs another package.
      DatasetError: the file is missing, cut short, of an unknown kind, or has more than
        `records.MAX_PIXELS`; a JPEG may have four times as many.
    """
    key = key or str(content)
    try:
        if isinstance(content, recordio.Part):
            content = content.read()
        with _stream(content) as file, _open(file) as image:
            reduced = _reduce(image)
            return Picture(np.asarray(decoding.decode(image)), reduced)
    except UnidentifiedImageError as error:
        raise DatasetError(
            f'{key} cannot be read as an image: it is none of '
            f'{", ".join((*_FORMATS, "AVIF", "HEIF"))}'
        ) from error
    except MissingDecoderError as error:
        raise MissingDecoderError(error.advice, key) from error
    except Image.DecompressionBombError as error:
        raise DatasetError(
            f'{key} cannot be read as an image: it has too many pixels, {_limit()}'
        ) from error
    # Pillow raises many kinds of error for damaged files (OSError, SyntaxError,
    # struct.error, …), which all mean the same here.
    except Exception as error:
        raise DatasetError(f'{key} cannot be read as an image: {error}') from error


def _open(file):
    """Pillow's image; only the beginning of the file is read."""
    head = file.read(_HEAD)
    file.seek(0)
    if head.startswith(_JPEG):
        # As Image.open does, but without its limit, which is twice Pillow's warning.
        try:
            return JpegImagePlugin.jpeg_factory(file)
        except SyntaxError as error:
            raise UnidentifiedImageError(str(error)) from error
    if kind := _kind(head):
        _enable(kind)
    try:
        return Image.open(file, formats=(kind,) if kind else _FORMATS)
    except UnidentifiedImageError as error:
        if not kind:
            raise
        raise ValueError(f'it begins as {kind}, but the rest is damaged') from error


def _kind(head):
    """The kind of an ISO container by its first bytes; None if it is another kind."""
    return _BRANDS.get(head[8:]) if head[4:8] == b'ftyp' else None


def _enable(kind):
    """Makes Pillow read a kind that it may not know."""
    if kind == 'AVIF':
        if 'avif' not in features.modules or not features.check_module('avif'):
            raise MissingDecoderError("AVIF, which needs pip install 'pillow>=11.3'")
        return
    try:
        import pillow_heif
    except ImportError as error:
        advice = "HEIC, which needs pip install 'sicnn_jax[heic]'"
        raise MissingDecoderError(advice) from error
    pillow_heif.register_heif_opener()


def _stream(content: str | bytes) -> BinaryIO:
    return io.BytesIO(content) if isinstance(content, bytes) else open(content, 'rb')


def _reduce(image):
    """Makes a JPEG that is too large decode at half its size; returns the factor."""
    width, height = image.size
    # Pillow only warns of this many, and a filter of warnings affects all threads.
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
        f'and no more than {records.MAX_PIXELS:,} are read (of a JPEG '
        f'{_REDUCTION**2 * records.MAX_PIXELS:,}, at half the size): make it smaller'
    )
