"""Where faces come from, before they are aligned and written as shards."""

import os
import pathlib

import numpy as np
from PIL import Image, ImageOps

from sicnn_jax.data.records import DatasetError

_SUFFIXES = {
    *('.bmp', '.gif', '.jfif', '.jpeg', '.jpg', '.pgm'),
    *('.png', '.pnm', '.ppm', '.tif', '.tiff', '.webp'),
}


def folder_source(directory: str | os.PathLike) -> list[tuple[str, str]]:
    """The images of a directory with one folder an identity.

    Images may lie deeper, such as `identity/video/frame.jpg`. Hidden files and files
    that are not images by their suffix are passed over.

    Returns:
      (path relative to the directory, with /; identity), sorted by path.

    Raises:
      DatasetError: there is no such directory or there are no images in its folders.
    """
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        raise DatasetError(f'{directory} is not a directory; expected one of images.')
    found = []
    for folder, _, names in os.walk(directory, followlinks=True):
        relative = pathlib.Path(folder).relative_to(directory)
        if not relative.parts or any(part.startswith('.') for part in relative.parts):
            continue
        found.extend(
            ((relative / name).as_posix(), relative.parts[0])
            for name in names
            if pathlib.Path(name).suffix.lower() in _SUFFIXES
            and not name.startswith('.')
        )
    if not found:
        raise DatasetError(
            f'{directory} has no images in its folders; expected one folder an '
            'identity, such as NAME/NAME_0001.jpg.'
        )
    return sorted(found)


def load_image(path: str | os.PathLike) -> np.ndarray:
    """An image file as uint8 [height, width, 3] RGB, upright.

    Grey, palette, CMYK and 16-bit images are converted, the orientation in EXIF is
    applied, transparent parts become white; of an animation it is the first frame.

    Raises:
      DatasetError: the file is missing, cut short or of a kind that is not known.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    # Pillow raises errors of many kinds on damaged files (OSError, SyntaxError,
    # struct.error, DecompressionBombError, …); all of them mean the same here.
    except Exception as error:
        raise DatasetError(f'{path} cannot be read as an image: {error}') from error


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
