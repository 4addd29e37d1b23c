"""Turns Pillow's images into 8-bit sRGB, upright and without transparent parts."""

import functools
import io

import numpy as np
from PIL import Image

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The mode for each colour space of a profile, and the modes that can be converted to it
# without changing their meaning.
_MODES = {
    b'RGB ': ('RGB', ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'YCbCr')),
    b'GRAY': ('L', ('1', 'L', 'LA')),
    b'CMYK': ('CMYK', ('CMYK',)),
}
# A profile that moves no colour by more levels than this is sRGB in other words;
# pictures with such a profile are left as they are, at no cost.
_SAME = 2


def decode(image: Image.Image) -> Image.Image:
    """An image of a file as RGB, in sRGB and upright.

    Colours are converted by the file's profile, unless the profile is damaged or of
    another kind of image; without a profile, they are taken as sRGB.

    Raises:
      ValueError: its levels have no known range.
    """
    # First, since other steps may lose it.
    profile = image.info.get('icc_profile')
    image = _upright(image)
    if image.mode.startswith('I'):
        # Levels have 16 bits in files, and more in memory; `convert` would clip at 255.
        levels = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        image = Image.fromarray(np.rint(levels / 257).astype(np.uint8))
    if image.mode == 'F':
        raise ValueError('it holds floating-point numbers of an unknown range')
    if profile:
        image = _in_srgb(image, profile)
    if image.has_transparency_data:
        white = Image.new('RGBA', image.size, 'white')
        image = Image.alpha_composite(white, image.convert('RGBA'))
    return image if image.mode == 'RGB' else image.convert('RGB')


def _upright(image):
    """Turns an image upright. It only reads EXIF: Pillow's own function writes EXIF
    again, and fails at entries that it cannot write."""
    image.load()
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION))
    # Damaged EXIF raises many kinds of error; the pixels may still be good.
    except Exception:
        turn = None
    return image if turn is None else image.transpose(turn)


def _in_srgb(image, profile):
    # These bytes of a profile name its colour space.
    mode, suitable = _MODES.get(profile[16:20], ('', ()))
    transform = _to_srgb(profile, mode) if image.mode in suitable else None
    if transform is None:
        return image
    result = transform.apply(image.convert(mode))
    if image.has_transparency_data:
        result.putalpha(image.convert('RGBA').getchannel('A'))
    return result


@functools.lru_cache(maxsize=16)
def _to_srgb(profile, mode):
    """The transform from a profile to sRGB; None for sRGB and damaged profiles.

    It is cached: many pictures share few profiles, and making it takes longer than
    using it.
    """
    # Imported here, because few pictures need it.
    from PIL import ImageCms

    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile('sRGB'),
            mode,
            'RGB',
        )
    except (ImageCms.PyCMSError, OSError):
        return None
    return None if _changes_nothing(transform, mode) else transform


def _changes_nothing(transform, mode):
    """Whether a transform moves no colour of a grid by more than `_SAME` levels."""
    if mode == 'CMYK':
        return False
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    colours = Image.fromarray(grid.reshape(1, -1, 3)).convert(mode)
    moved = np.asarray(transform.apply(colours), int)
    return np.abs(moved - np.asarray(colours.convert('RGB'))).max() <= _SAME
