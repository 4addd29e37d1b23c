"""Images of files, bytes or RecordIO sets, as RGB."""

import io
import os

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError, features

from sicnn_jax import names, paths
from sicnn_jax.data import recordio, records
from sicnn_jax.data.records import DatasetError

# What is in a file decides, not its name; and nothing that Pillow would hand to
# another program, as it does PostScript.
_FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
# What not every installation reads, by the brand at the beginning of the file.
_AVIF, _HEIC = 'AVIF', 'HEIF'
_BRANDS = {
    **dict.fromkeys((b'avif', b'avis'), _AVIF),
    **dict.fromkeys((b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx'), _HEIC),
    **dict.fromkeys((b'mif1', b'msf1'), _HEIC),
}
# An image: the path of its file, its bytes, or its place in a RecordIO file.
Content = str | bytes | recordio.Part


class MissingDecoderError(DatasetError):
    """An image is of a kind that this installation does not read.

    Attributes:
      advice: the kind, and what would read it.
    """

    def __init__(self, advice: str, key: str = ''):
        super().__init__(f'{key} cannot be read as an image: {advice}')
        self.advice = advice


def is_image(path: str) -> bool:
    """Whether a file begins as an image, whatever it is called.

    What may not be opened counts as one: reading it says why it cannot be read.
    """
    try:
        with Image.open(path, formats=_FORMATS):
            return True
    except UnidentifiedImageError:
        return _brand(path) in _BRANDS
    except PermissionError:
        return True
    # As in `load_image`.
    except Exception:
        return False


def path_below(root: str | os.PathLike, path: str) -> str:
    """The absolute path of a file that a list of others names.

    Args:
      root: the directory below which it has to be.
      path: relative to it, or absolute, however its names are spelled.

    Raises:
      DatasetError: it is elsewhere.
    """
    if paths.is_address(path):
        raise DatasetError(f'{path} is no file: download what the list names.')
    root = os.path.abspath(root)
    # Joining leaves a path that is absolute as it is.
    file = os.path.normpath(os.path.join(root, path))
    if os.path.commonpath([root, file]) != root:
        raise DatasetError(
            f'{path} is not below {root}, and a list is not to read what it likes.'
        )
    return names.find(file)


def load_image(content: Content, key: str | None = None) -> np.ndarray:
    """An image as uint8 [height, width, 3] RGB, upright.

    Grey, palette, CMYK and 16-bit images are converted, the orientation in EXIF is
    applied, transparent parts become white; of an animation it is the first frame.

    Args:
      content: of the image.
      key: what errors call it; by default its path.

    Raises:
      MissingDecoderError: another package is needed for it.
      DatasetError: the file is missing, cut short, of a kind that is not known or of
        more than `records.MAX_PIXELS`.
    """
    key = key or str(content)
    try:
        with _open(content) as image:
            width, height = image.size
            # Pillow only warns of so many, and a filter of warnings is one for all
            # threads.
            if width * height > records.MAX_PIXELS:
                raise ValueError(f'it has {width}×{height} pixels, too many')
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except UnidentifiedImageError as error:
        raise DatasetError(
            f'{key} cannot be read as an image: it is none of '
            f'{", ".join((*_FORMATS, _AVIF, _HEIC))}'
        ) from error
    except MissingDecoderError as error:
        raise MissingDecoderError(error.advice, key) from error
    # Pillow raises errors of many kinds on damaged files (OSError, SyntaxError,
    # struct.error, DecompressionBombError, …); all of them mean the same here.
    except Exception as error:
        raise DatasetError(f'{key} cannot be read as an image: {error}') from error


def _open(content):
    """Pillow's image, of which no more than the beginning is read."""
    file = _opened(content)
    try:
        return Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError:
        kind = _BRANDS.get(_brand(file))
        if kind is None:
            raise
    _enable(kind)
    try:
        return Image.open(file, formats=(kind,))
    except UnidentifiedImageError as error:
        raise ValueError(f'it begins as {kind}, and the rest is damaged') from error


def _brand(file):
    """Which of the kinds a container of ISO's says it is; empty if it is none."""
    if isinstance(file, io.BytesIO):
        head = file.getvalue()[:12]
    else:
        with open(file, 'rb') as opened:
            head = opened.read(12)
    return head[8:] if head[4:8] == b'ftyp' else b''


def _enable(kind):
    """Has Pillow read a kind that it may not know."""
    if kind == _AVIF:
        if 'avif' not in features.modules or not features.check_module('avif'):
            raise MissingDecoderError("AVIF, which needs pip install 'pillow>=11.3'")
        return
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingDecoderError(
            "HEIC, which needs pip install 'sicnn_jax[heic]'"
        ) from error
    pillow_heif.register_heif_opener()


def _opened(content):
    if isinstance(content, recordio.Part):
        content = content.read()
    return io.BytesIO(content) if isinstance(content, bytes) else content


def _to_rgb(image):
    if image.mode.startswith('I'):
        # 16 bits in files, more in memory; `convert` would clip them at 255.
        levels = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray(np.rint(levels / 257).astype(np.uint8)).convert('RGB')
    if image.mode == 'F':
        raise ValueError('it holds floating-point numbers of an unknown range')
    if image.has_transparency_data:
        image = image.convert('RGBA')
        white = Image.new('RGBA', image.size, 'white')
        return Image.alpha_composite(white, image).convert('RGB')
    return image.convert('RGB')
