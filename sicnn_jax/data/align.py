"""Aligns faces: five landmarks to a template, by one warp of the original pixels.

Points are (x, y) in pixels; the centre of the first pixel is (0, 0).
"""

import os
from collections.abc import Sequence

import numpy as np
import scipy
from PIL import Image

from sicnn_jax import text_files
from sicnn_jax.data.records import DatasetError
from sicnn_jax.names import ByName
from sicnn_jax.template import HEIGHT, TEMPLATE, WIDTH

__all__ = [
    'align_face',
    'center_crop',
    'checked_image',
    'face_transform',
    'paste_face',
    'read_landmarks',
    'scaled_template',
    'similarity_transform',
    'warp',
]

# How far landmarks may be from the template after the best transform: root mean square,
# in pixels of the 112×96 face. A face in profile, where left and right coincide, is 15
# to 17 off (a nose 25 to 45 mm before eyes 63 mm apart); a face with left and right
# exchanged is 23 off, the maximum. The 10,562 faces of LFW without folds 9 and 10 are
# at most 12.2 off, and at least 19.3 with left and right exchanged.
_MOST_OFF = 18.0
# From this distance on, the points are mistaken if another reading of them fits much
# better, at half the distance: with only eyes or mouth corners exchanged, the points
# may be nearer to the template than those of a face in profile.
_SUSPICIOUS = 12.0
_BETTER = 0.5
_UNDO = {
    'left and right are exchanged: the left eye is the one on the left of the picture, '
    "not the person's own": lambda points: points[[1, 0, 2, 4, 3]],
    'the eyes are exchanged': lambda points: points[[1, 0, 2, 3, 4]],
    'the mouth corners are exchanged': lambda points: points[[0, 1, 2, 4, 3]],
    'x and y are exchanged': lambda points: points[:, ::-1],
    'y counts from below': lambda points: points * [1, -1],
}
_ORDER = 'x and y of left eye, right eye, nose, left and right mouth corner'

# A pasted face fades into the picture over this many of its pixels.
_FADE = 12

# Pixels of the source kept beyond the visible part: enough for the support of the cubic
# spline, which decays by a factor of 0.27 per pixel, and of the Gaussian below.
_MARGIN = 12


def similarity_transform(
    source_points: np.ndarray | Sequence, target_points: np.ndarray | Sequence
) -> np.ndarray:
    """The rotation, uniform scale and translation that best maps source to target.

    It is the least-squares fit without shear and reflection: Umeyama, "Least-squares
    estimation of transformation parameters between two point patterns", 1991.

    Args:
      source_points, target_points: [n, 2] points (x, y), n >= 2.

    Returns:
      float64 [2, 3]: target = transform[:, :2] @ source + transform[:, 2].

    Raises:
      DatasetError: shapes differ, a number is not finite, all points coincide,
        or no scale and rotation fits better than shrinking to a point.
    """
    source = np.asarray(source_points, np.float64)
    target = np.asarray(target_points, np.float64)
    if source.shape != target.shape or source.shape[1:] != (2,) or len(source) < 2:
        raise DatasetError(
            f'Points have shapes {list(source.shape)} and {list(target.shape)}; '
            'expected both [n, 2] with n >= 2.'
        )
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise DatasetError('A landmark is not a finite number.')
    source_mean, target_mean = source.mean(0), target.mean(0)
    source, target = source - source_mean, target - target_mean
    variance = (source**2).sum()
    if variance < 1e-12 or (target**2).sum() < 1e-12:
        raise DatasetError('All landmarks lie on one point.')
    left, singular, right = np.linalg.svd(target.T @ source)
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = (left * signs) @ right
    scale = (singular @ signs) / variance
    if scale < 1e-9:
        raise DatasetError('No rotation brings the landmarks near the target.')
    linear = scale * rotation
    return np.column_stack([linear, target_mean - linear @ source_mean])


def face_transform(landmarks: np.ndarray | Sequence, scale: float = 1) -> np.ndarray:
    """The transform that brings the landmarks of a face to `scaled_template(scale)`.

    Args:
      landmarks: [5, 2] points (x, y) in the order of `TEMPLATE`.
      scale: how many times smaller the face becomes than 112×96.

    Returns:
      float64 [2, 3], as from `similarity_transform`.

    Raises:
      DatasetError: as `similarity_transform`, or the points are further from the
        template than those of any face, for example if left and right are exchanged;
        the message names the likely cause.
    """
    points = np.asarray(landmarks, np.float64)
    template = scaled_template(scale)
    transform = similarity_transform(points, template)
    off = scale * _distance(points, transform, template)
    mistake = _likely_mistake(points, off) if off > _SUSPICIOUS else ''
    if mistake or off > _MOST_OFF:
        mistake = mistake or f'they are not {_ORDER}, in this order'
        raise DatasetError(
            f'The landmarks are not those of a face: {off:.1f} pixels of the '
            f'{WIDTH}×{HEIGHT} face off the template on average. It seems that '
            f'{mistake}.'
        )
    return transform


def _distance(points, transform, template):
    """Root mean square distance of moved points from a template."""
    moved = points @ transform[:, :2].T + transform[:, 2]
    return np.sqrt(((moved - template) ** 2).sum(1).mean())


def _likely_mistake(points, off):
    """The mistake that brings the points nearer to the template if undone, or ''.

    Of several, it is the one after which the face is most upright: exchanged axes look
    like exchanged sides of a face that lies on its side.
    """
    upright = {}
    for mistake, undo in _UNDO.items():
        mended = undo(points)
        transform = similarity_transform(mended, TEMPLATE)
        if _distance(mended, transform, TEMPLATE) <= _BETTER * off:
            upright[mistake] = transform[0, 0] / np.linalg.norm(transform[:, 0])
    return max(upright, default='', key=upright.__getitem__)


def warp(
    image: np.ndarray, transform: np.ndarray, size: tuple[int, int] = (HEIGHT, WIDTH)
) -> np.ndarray:
    """Moves an image by a similarity transform, in one interpolation.

    It interpolates by cubic splines; where the image shrinks, a Gaussian with
    σ = (1 / scale − 1) / 2 source pixels first prevents aliasing. Beyond the image, its
    edge is repeated.

    Args:
      image: uint8 [height, width, 3].
      transform: [2, 3], of source points to points of the result.
      size: (height, width) of the result.

    Returns:
      uint8 [*size, 3].

    Raises:
      DatasetError: the image is not uint8 [height, width, 3].
    """
    image = checked_image(image)
    transform = np.asarray(transform, np.float64)
    inverse = np.linalg.inv(transform[:, :2])
    offset = -inverse @ transform[:, 2]
    scale = np.sqrt(abs(np.linalg.det(transform[:, :2])))
    sigma = max(0.0, (1 / scale - 1) / 2)

    part, corner = _visible_part(image, inverse, offset, size, sigma)
    matrix, shift = inverse[::-1, ::-1], (offset - corner)[::-1]
    result = np.empty((*size, 3), np.uint8)
    for channel in range(3):
        plane = part[..., channel].astype(np.float32)
        if sigma:
            plane = scipy.ndimage.gaussian_filter(plane, sigma, mode='nearest')
        warped = scipy.ndimage.affine_transform(
            plane, matrix, shift, size, order=3, mode='nearest'
        )
        result[..., channel] = np.clip(np.rint(warped), 0, 255)
    return result


def align_face(image: np.ndarray, landmarks: np.ndarray | Sequence) -> np.ndarray:
    """Brings a face to the template.

    Args:
      image: uint8 [height, width, 3].
      landmarks: [5, 2] points (x, y) in the order of `TEMPLATE`.

    Returns:
      uint8 [112, 96, 3].

    Raises:
      DatasetError: as `face_transform` and `warp`.
    """
    return warp(image, face_transform(landmarks))


def scaled_template(scale: float) -> np.ndarray:
    """`TEMPLATE` in faces that are smaller by a factor: float64 [5, 2].

    The network for that factor takes faces of 112 / scale × 96 / scale pixels. Each
    pixel stands for a square of `scale` × `scale` pixels, with the same centre.
    """
    return (np.array(TEMPLATE) + 0.5) / scale - 0.5


def paste_face(
    picture: np.ndarray, face: np.ndarray, transform: np.ndarray | Sequence
) -> np.ndarray:
    """Puts an aligned face back where it came from, by the inverse transform.

    It fades out over 12 of its pixels at each side; beyond them the picture is
    untouched.

    Args:
      picture: uint8 [height, width, 3].
      face: uint8 [112, 96, 3].
      transform: [2, 3], of points of the picture to points of the face.

    Returns:
      uint8 [height, width, 3], a copy.

    Raises:
      DatasetError: an image is not uint8 [height, width, 3].
    """
    result = checked_image(picture).copy()
    face = checked_image(face)
    transform = np.asarray(transform, np.float64)
    inverse = np.linalg.inv(transform[:, :2])
    right, bottom = face.shape[1] - 1, face.shape[0] - 1
    corners = np.array([[0, 0], [right, 0], [0, bottom], [right, bottom]])
    corners = (corners - transform[:, 2]) @ inverse.T
    limits = np.array(result.shape[1::-1])
    left, top = np.clip(np.floor(corners.min(0)), 0, limits).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(0)) + 1, 0, limits).astype(int)
    if left >= right or top >= bottom:
        return result
    back = np.column_stack([inverse, -inverse @ transform[:, 2] - [left, top]])
    size = (bottom - top, right - left)
    opacity = warp(_faded(face.shape[:2]), back, size) / np.float32(255)
    part = result[top:bottom, left:right]
    part[:] = np.rint(part + opacity * (warp(face, back, size) - np.float32(part)))
    return result


def center_crop(image: np.ndarray) -> np.ndarray:
    """The largest central part of aspect ratio 96:112, resized without aliasing.

    Args:
      image: uint8 [height, width, 3].

    Returns:
      uint8 [112, 96, 3], by Lanczos resampling; an image of that size is unchanged.

    Raises:
      DatasetError: the image is not uint8 [height, width, 3].
    """
    image = checked_image(image)
    height, width = image.shape[:2]
    scale = min(height / HEIGHT, width / WIDTH)
    left, top = (width - scale * WIDTH) / 2, (height - scale * HEIGHT) / 2
    box = (left, top, left + scale * WIDTH, top + scale * HEIGHT)
    picture = Image.fromarray(image)
    return np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box))


def read_landmarks(path: str | os.PathLike) -> ByName[np.ndarray]:
    """Landmarks by relative path, from lines of a path and ten numbers.

    The numbers are x and y of the points of `TEMPLATE`, in that order, in pixels of
    the image; they and the path are separated by blanks or tabs.

    Returns:
      float64 [5, 2] by path, however the path is spelled.

    Raises:
      DatasetError: there is no such file, or a line is not of that form.
    """
    try:
        text = text_files.read_text(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path} cannot be read as landmarks: {error}') from error
    landmarks: dict[str, np.ndarray] = {}
    for number, line in enumerate(text.split('\n'), start=1):
        if line.strip():
            place = f'{path}, line {number}'
            name, points = _parse_landmarks(line, place)
            if name in landmarks:
                raise DatasetError(f'{place}: {name} occurs a second time.')
            landmarks[name] = points
    return ByName(landmarks)


def _parse_landmarks(line, place):
    name, *numbers = line.strip().rsplit(maxsplit=10)
    try:
        points = np.array(numbers, np.float64)
    except ValueError:
        points = np.array([np.nan])
    if points.shape != (10,) or not np.isfinite(points).all():
        raise DatasetError(
            f'{place}: expected a path and ten numbers ({_ORDER}); found '
            f'{line.strip()!r}.'
        )
    return name, points.reshape(5, 2)


def _faded(size):
    """Opacity 0..255 as a picture: 0 along the edges, full from `_FADE` pixels on."""
    rises = []
    for length in size:
        side = np.minimum(np.arange(length), np.arange(length)[::-1]) / _FADE
        rises.append((1 - np.cos(np.pi * np.minimum(side, 1))) / 2)
    opacity = np.rint(255 * np.outer(*rises)).astype(np.uint8)
    return np.repeat(opacity[..., None], 3, axis=2)


def checked_image(image: np.ndarray) -> np.ndarray:
    """The image; raises DatasetError unless it is uint8 [height, width, 3]."""
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DatasetError(
            f'The image is {image.dtype} {list(image.shape)}; expected uint8 '
            '[height, width, 3].'
        )
    return image


def _visible_part(image, inverse, offset, size, sigma):
    """The part of an image that a warp shows, and its first point (x, y).

    Photographs are often many times larger than the faces in them.
    """
    bottom, right = np.subtract(size, 1)
    corners = np.array([[0, 0], [right, 0], [0, bottom], [right, bottom]])
    points = corners @ inverse.T + offset
    margin = _MARGIN + 4 * sigma
    limits = np.array(image.shape[1::-1]) - 1
    first = np.clip(np.floor(points.min(0) - margin), 0, limits).astype(int)
    last = np.clip(np.ceil(points.max(0) + margin), 0, limits).astype(int)
    return image[first[1] : last[1] + 1, first[0] : last[0] + 1], first
