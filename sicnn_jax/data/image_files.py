"""Images of files, bytes or RecordIO sets, as RGB."""

import io
import os

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sicnn_jax import names, paths
from sicnn_jax.data import recordio, records
from sicnn_jax.data.records import DatasetError

# What is in a file decides, not its name; and nothing that Pillow would hand to
# another program, as it does PostScript.
_FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
# An image: the path of its file, its bytes, or its place in a RecordIO file.
Content = str | bytes | recordio.Part


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
      DatasetError: the file is missing, cut short, of a kind that is not known or of
        more than `records.MAX_PIXELS`.
    """
    key = key or str(content)
    try:
        with Image.open(_opened(content), formats=_FORMATS) as image:
            width, height = image.size
            # Pillow only warns of so many, and a filter of warnings is one for all
            # threads.
            if width * height > records.MAX_PIXELS:
                raise ValueError(f'it has {width}×{height} pixels, too many')
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except UnidentifiedImageError as error:
        raise DatasetError(
            f'{key} cannot be read as an image: it is none of {", ".join(_FORMATS)}'
        ) from error
    # Pillow raises errors of many kinds on damaged files (OSError, SyntaxError,
    # struct.error, DecompressionBombError, …); all of them mean the same here.
    except Exception as error:
        raise DatasetError(f'{key} cannot be read as an image: {error}') from error


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
