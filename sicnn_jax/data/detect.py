"""Finds faces in photographs, and five landmarks of each, by MTCNN.

Small faces are enlarged for it, and it sees large photographs in parts. Points are
(x, y) in pixels; the centre of the first pixel is (0, 0).
"""

import dataclasses
import importlib.util
import itertools
from collections.abc import Sequence

import numpy as np
from PIL import Image

from sicnn_jax.data.align import checked_image, face_transform
from sicnn_jax.data.records import DatasetError

__all__ = [
    'CHOICES',
    'MIN_SCORE',
    'SMALLEST',
    'DetectedFace',
    'DetectorMissingError',
    'choose',
    'find_faces',
]

CHOICES = ('all', 'largest', 'central')
SMALLEST = 12
MIN_SCORE = 0.92

# MTCNN sees the smallest wanted face at this size. Its own limit is 20; enlarged to 40,
# more of the faces of 12 and 14 pixels are found, with better landmarks
# (benchmarks/speed/detection.py). A larger size costs time and helps little.
_SEEN = 40
# Faces smaller than this part of the longer side are looked for only on request.
_SMALLEST_PART = 1 / 45
# MTCNN sees tiles of this side, since it compares each candidate with all others. A
# face no larger than the overlap lies entirely in one of the tiles.
_TILE, _OVERLAP = 1800, 360
# Below this side, MTCNN's pyramid is empty.
_LEAST_SIDE = 24
_SAME_FACE = 0.4


class DetectorMissingError(DatasetError):
    """The package that finds faces is not installed."""


@dataclasses.dataclass(frozen=True)
class DetectedFace:
    """One face in a photograph.

    Attributes:
      box: float64 [4], left, top, width and height in pixels; may reach beyond the
        photograph.
      landmarks: float64 [5, 2], in the order of `align.TEMPLATE`.
      score: in [0, 1].
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float


def find_faces(
    image: np.ndarray,
    *,
    min_size: float | None = None,
    min_score: float = MIN_SCORE,
    rotations: bool = False,
) -> list[DetectedFace]:
    """Finds faces and their landmarks.

    MTCNN finds upright or nearly upright faces. Several threads may call this.

    Args:
      image: uint8 [height, width, 3] RGB.
      min_size: of a face in pixels, at least 12. By default 12, but no less than
        1/45 of the longer side: time and memory grow with the square of
        height / min_size.
      min_score: in [0, 1].
      rotations: if there is no upright face, look for faces turned by 90°, 180° or
        270°, which takes three times as long, and return those of the turn with the
        best face.

    Returns:
      Faces in descending order of score.

    Raises:
      DetectorMissingError: the extra `detect` is not installed.
      DatasetError: the image is not uint8 [height, width, 3], or min_size is too
        small.
    """
    image = checked_image(image)
    if min_size is None:
        min_size = max(SMALLEST, max(image.shape) * _SMALLEST_PART)
    if min_size < SMALLEST:
        raise DatasetError(f'min_size is {min_size}; expected at least {SMALLEST}.')
    if importlib.util.find_spec('mtcnn') is None:
        raise DetectorMissingError(
            "Finding faces needs the package mtcnn: pip install 'sicnn_jax[detect]', "
            'or give their landmarks.'
        )
    found = _find(image, min_size, min_score)
    if found or not rotations:
        return found
    turned = []
    for turns in (1, 2, 3):
        found = _find(np.ascontiguousarray(np.rot90(image, turns)), min_size, min_score)
        turned.append([_turned_back(face, turns, image.shape) for face in found])
    return max(turned, key=lambda faces: faces[0].score if faces else 0)


def _find(image, min_size, min_score):
    found = [
        face
        for view, factors, corner in _views(image, _SEEN / min_size)
        for face in _detect(view, factors, corner)
        if face.score >= min_score and _has_a_face(face.landmarks)
    ]
    return _without_repeats(found)


def _turned_back(face, turns, shape):
    """A face of an image turned left by quarters, in coordinates of the image as it is.

    The shape is the image's before it was turned.
    """
    corner, size = face.box[:2], face.box[2:]
    points = np.array([corner, corner + size, *face.landmarks])
    width, height = shape[1::-1] if turns % 2 == 0 else shape[:2]
    for _ in range(turns):
        # A quarter turn to the right: the bottom is now on the left.
        points = np.stack([height - 1 - points[:, 1], points[:, 0]], axis=1)
        width, height = height, width
    corner, end = points[:2].min(0), points[:2].max(0)
    box = np.concatenate([corner, end - corner])
    return dataclasses.replace(face, box=box, landmarks=points[2:])


def _has_a_face(landmarks):
    """Whether the points that MTCNN found can belong to a face."""
    try:
        face_transform(landmarks)
    except DatasetError:
        return False
    return True


def choose(
    faces: Sequence[DetectedFace], which: str, image_shape: Sequence[int]
) -> list[DetectedFace]:
    """Some of the faces of one photograph.

    Args:
      faces: any number.
      which: 'all', 'largest' (by the area of its box) or 'central' (the middle of its
        box is nearest to the middle of the photograph).
      image_shape: (height, width, …).

    Returns:
      All faces, or one; none if there are none.

    Raises:
      DatasetError: `which` is not one of these.
    """
    if which not in CHOICES:
        raise DatasetError(f'faces is {which!r}; expected one of {", ".join(CHOICES)}.')
    if which == 'all' or not faces:
        return list(faces)
    if which == 'largest':
        return [max(faces, key=lambda face: face.box[2] * face.box[3])]
    middle = (np.array(image_shape[1::-1]) - 1) / 2

    def from_middle(face):
        return np.linalg.norm(face.box[:2] + face.box[2:] / 2 - middle)

    return [min(faces, key=from_middle)]


def _views(image, factor):
    """The resized image; if large, in tiles, and also reduced to one tile.

    Yields pixels, the factors (x, y) by which they are finer than those of the image,
    and the position (x, y) of the first pixel in the resized image.
    """
    size = np.array(image.shape[1::-1])
    resized = np.maximum(np.rint(size * factor), 1).astype(int)
    picture = Image.fromarray(image)
    if (resized > _TILE).any():
        yield from _views(image, _TILE / size.max())
    scale = size / resized
    for corner in map(np.array, itertools.product(*map(_tile_starts, resized))):
        end = np.minimum(corner + _TILE, resized)
        if min(end - corner) < _LEAST_SIDE:
            continue
        box = (*(scale * corner), *(scale * end))
        tile = picture.resize(tuple(end - corner), Image.Resampling.BICUBIC, box)
        yield np.asarray(tile), 1 / scale, corner


def _tile_starts(length):
    """Starts of the tiles along one side; the last tile ends with the image."""
    last = max(0, length - _TILE)
    return [*range(0, last, _TILE - _OVERLAP), last]


def _detect(view, factors, corner):
    # Imported here because of JAX, which the processes of `prepare` otherwise lack.
    from sicnn_jax.data import mtcnn

    for box, score, landmarks in zip(*mtcnn.find(view), strict=True):
        points = np.concatenate([box.reshape(2, 2), landmarks])
        points = (points + corner + 0.5) / factors - 0.5
        first, end = points[:2]
        box = np.concatenate([first, end - first])
        yield DetectedFace(box, points[2:], float(score))


def _without_repeats(faces):
    """Keeps one of each face that several tiles show, or that MTCNN returns twice."""
    kept: list[DetectedFace] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_overlap(face.box, other.box) < _SAME_FACE for other in kept):
            kept.append(face)
    return kept


def _overlap(a, b):
    """Intersection over union of two boxes."""
    sides = np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2])
    shared = np.prod(np.maximum(sides, 0))
    return shared / (np.prod(a[2:]) + np.prod(b[2:]) - shared)
