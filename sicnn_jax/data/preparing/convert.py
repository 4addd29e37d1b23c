"""Turns photographs into encoded faces of 112×96, or says why there are none.

All of it is pure and picklable, so that it runs in any process; nothing here raises for
a damaged photograph.
"""

import dataclasses
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image
from scipy import fft

from sicnn_jax.data import align, image_files, records

# A fingerprint has the signs of this many of the lowest frequencies along each axis.
_FREQUENCIES = 16
FINGERPRINT_BYTES = _FREQUENCIES**2 // 8

CENTER, LANDMARKS, DETECT = 'center', 'landmarks', 'detect'
FACES = ('largest', 'central', 'all')

NO_FACE = 'no face'
UPRIGHT = 'none that is upright; --rotations finds those turned by 90° or 180°'

# Faces shorter than the 8× network's input (14 pixels) are rejected.
MIN_HEIGHT = records.HEIGHT // 8


class Photograph(NamedTuple):
    """The source of a face; `landmarks` [5, 2] if they are known."""

    key: str
    content: image_files.Content
    landmarks: np.ndarray | None = None


class ConvertedFace(NamedTuple):
    """An encoded face, its height in pixels of the photograph, its fingerprint."""

    encoded: bytes
    height: float
    fingerprint: bytes

    @classmethod
    def of(cls, face: np.ndarray, height: float, encoding: str) -> Self:
        """Encodes a face, uint8 [112, 96, 3]."""
        return cls(records.encode_image(face, encoding), height, fingerprint(face))


# At least one face, or why there are none: 'reason' or 'reason: details'.
Outcome = list[ConvertedFace] | str


@dataclasses.dataclass(frozen=True)
class Convert:
    """Converts photographs to faces.

    Attributes:
      placement: `CENTER`, `LANDMARKS` (photographs without are rejected) or `DETECT`.
      faces, min_size, min_height, encoding, rotations: as in `settings.Settings`.
    """

    placement: str = CENTER
    faces: str = 'largest'
    min_size: int = 0
    min_height: float = MIN_HEIGHT
    encoding: str = 'png'
    rotations: bool = False

    def __call__(self, photographs: list[Photograph]) -> list[Outcome]:
        """The outcome of each photograph, in their order."""
        return [self._convert(photograph) for photograph in photographs]

    def describe(self, alignment: Any) -> dict[str, Any]:
        """The alignment of the new set; `alignment` describes the source."""
        if self.placement == CENTER:
            return alignment or {'method': 'center_crop'}
        template = [list(point) for point in align.TEMPLATE]
        detector = {'detector': 'mtcnn'} if self.placement == DETECT else {}
        return {'method': 'similarity', 'template': template} | detector

    def _convert(self, photograph):
        if self.placement == LANDMARKS and photograph.landmarks is None:
            return 'no landmarks'
        content = photograph.content
        name = content if isinstance(content, str) else photograph.key
        try:
            picture = image_files.load_picture(content, name)
        except image_files.MissingDecoderError as error:
            return f'{error.advice}: {error}'
        except records.DatasetError as error:
            return f'unreadable: {error}'
        image = picture.pixels
        height, width = image.shape[:2]
        if min(height, width) < self.min_size:
            return f'too small: {height}×{width} (height×width)'
        points = self._landmarks(picture, photograph.landmarks)
        if not points:
            return NO_FACE if self.rotations else f'{NO_FACE}: {UPRIGHT}'
        try:
            placed = [_place(image, face) for face in points]
        except records.DatasetError as error:
            return f'impossible landmarks: {error}'
        least = self.min_height
        large = [(face, rows) for face, rows in placed if rows >= least]
        if not large:
            highest = max(rows for _, rows in placed)
            return f'too small: the face is {highest:.1f} pixels high, of {least}'
        return [ConvertedFace.of(face, rows, self.encoding) for face, rows in large]

    def _landmarks(self, picture, given):
        """The landmarks of each face; None stands for a crop of the middle."""
        if self.placement != DETECT:
            return [None if given is None else picture.from_file(given)]
        # Only this needs the extra `detect`.
        from sicnn_jax.data import detect

        image = picture.pixels
        found = detect.find_faces(image, rotations=self.rotations)
        found = detect.choose(found, self.faces, image.shape)
        return [face.landmarks for face in found]


def _place(image, landmarks):
    """The aligned face and the rows of the photograph that it shows."""
    height, width = image.shape[:2]
    if landmarks is None:
        rows = min(height, width * records.HEIGHT / records.WIDTH)
        return align.center_crop(image), rows
    transform = align.face_transform(landmarks)
    scale = np.sqrt(np.linalg.det(transform[:, :2]))
    return align.warp(image, transform), records.HEIGHT / scale


def fingerprint(face: np.ndarray) -> bytes:
    """A hash that survives encoding again, resizing and brightening.

    It is a perceptual hash: the signs of the lowest 16×16 frequencies of the grey
    image's cosine transform. Mirroring flips the signs of odd horizontal frequencies.

    Args:
      face: uint8 [height, width, 3].

    Returns:
      `FINGERPRINT_BYTES` bytes.
    """
    grey = Image.fromarray(face).convert('L')
    grey = grey.resize([4 * _FREQUENCIES] * 2, Image.Resampling.BOX)
    frequencies = fft.dctn(np.asarray(grey, np.float32), norm='ortho')
    return np.packbits(frequencies[:_FREQUENCIES, :_FREQUENCIES] > 0).tobytes()
