"""A trained CNNH for faces of any size in photographs, as a library.

from sicnn_jax.inference import Hallucinator

sr = Hallucinator()(lr)  # uint8 [n, 14, 12, 3] → uint8 [n, 112, 96, 3]
"""

import functools
import math
import os
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Float32, UInt8

from sicnn_jax import checkpoint, models
from sicnn_jax.data import align, detect
from sicnn_jax.data.detect import DetectedFace
from sicnn_jax.data.records import DatasetError
from sicnn_jax.inference import networks
from sicnn_jax.workdir import find_recognition, load_cnnh

# Up to this many pixels of the photograph per pixel of the network's input, the face is
# sampled directly. Beyond, it is brought to 96×112 and degraded as in training. On
# LFW, whose full photographs give the exact input, sampling is closer to it by 2 dB at
# 1, and degrading by 2 dB at 1.3 and by 14 dB at 1.7.
_SAMPLED_UP_TO = 1.2

# Batch sizes of a network: few, since calls may have any number of faces. With the
# paper's networks, a CPU's caches do not hold a layer's output for more than 8 faces
# (benchmarks/speed/inference.py).
_SIZES, _SIZES_ON_CPU = (1, 2, 4, 8, 16, 32), (1, 2, 4, 8)


class Hallucinator:
    """A trained CNNH as a function of faces.

    Args:
      source: a finished stage with a CNNH; or the workdir of a run, for its stage
        `domain_integrated` or else its last one with a CNNH; or a file of `sicnn
        export --format=safetensors`; None for a network that ships with the package.
      scale: of the network that ships, 8 (the default) or 4.

    Attributes:
      stage: directory of the stage, or the file.
      scale: 8 (12×14 faces) or 4 (24×28).
      degradation: how the training faces were made small.
      lr_shape: (height, width, 3) of an input.
      cnnr_stage: directory of the run's recognition stage, which measures identity
        similarity; None if there is none.

    Raises:
      CheckpointError: there is no such network, or its images follow another
        convention.
      ValueError: no network of that scale ships, or a scale is given with a source.
    """

    def __init__(
        self, source: str | os.PathLike | None = None, *, scale: int | None = None
    ):
        params, record, self.stage = load_cnnh(source, scale)
        self.scale: int = record['scale']
        self.degradation: str = record['degradation']
        self.lr_shape = (*models.LR_SHAPES[self.scale], 3)
        self.cnnr_stage = find_recognition(self.stage)
        self._sizes = _SIZES_ON_CPU if jax.default_backend() == 'cpu' else _SIZES
        self._super_resolve = networks.frozen(
            models.cnnh_from(record), params, sizes=self._sizes
        )

    def __call__(
        self, lr: UInt8[np.ndarray, 'n h w 3'] | Float[np.ndarray, 'n h w 3']
    ) -> UInt8[np.ndarray, 'n 112 96 3']:
        """Super-resolved faces, RGB in levels of 0 to 255.

        Args:
          lr: aligned faces of 14×12 (scale 8) or 28×24 (scale 4), RGB, in levels of
            0 to 255 (not 0 to 1); n may be 0.

        Raises:
          ValueError: the shape or type is wrong, or levels cannot be 0..255.
        """
        lr = np.asarray(lr)
        if lr.shape[1:] != self.lr_shape:
            raise ValueError(
                f'The faces have the shape {list(lr.shape)}; this network takes '
                f'[n, {", ".join(map(str, self.lr_shape))}]. Its scale is {self.scale}.'
            )
        if lr.dtype != np.uint8:
            lr = _checked_levels(lr)
        return self._super_resolve(lr)

    def network_input(
        self,
        photo: UInt8[np.ndarray, 'height width 3'],
        landmarks: Float[np.ndarray, '5 2'],
    ) -> UInt8[np.ndarray, 'h w 3']:
        """A face of a photograph in the size that the network takes, `lr_shape`.

        A photograph of the network's input size is itself the face. In others, small
        faces are sampled by one warp; larger ones are aligned at 96×112 and then
        degraded like the network's training faces.

        Args:
          photo: RGB.
          landmarks: see `align.TEMPLATE`.

        Raises:
          DatasetError: as `align.align_face`.
        """
        if photo.shape == self.lr_shape:
            return photo
        if magnification(landmarks, self.scale) * _SAMPLED_UP_TO >= 1:
            transform = align.face_transform(landmarks, self.scale)
            return align.warp(photo, transform, self.lr_shape[:2])
        hr = align.align_face(photo, landmarks)[None]
        return networks.degrade_faces(hr, scale=self.scale, kind=self.degradation)[0]

    def locate(
        self, photo: UInt8[np.ndarray, 'height width 3'], **options: Any
    ) -> list[DetectedFace]:
        """The faces of a photograph; an image of the network's input size is one face.

        Args:
          photo: RGB.
          **options: of `detect.find_faces`.

        Raises:
          DatasetError: the photograph has the size of another network's input.
        """
        for scale, size in models.LR_SHAPES.items():
            if photo.shape[:2] == size and scale != self.scale:
                raise DatasetError(
                    f'it is {size[1]}×{size[0]}, the input of a network of scale '
                    f'{scale}; this one has scale {self.scale} and takes '
                    f'{self.lr_shape[1]}×{self.lr_shape[0]}: choose a network of scale '
                    f'{scale}'
                )
        if photo.shape == self.lr_shape:
            height, width = self.lr_shape[:2]
            box = np.array([-0.5, -0.5, width, height])
            return [DetectedFace(box, align.scaled_template(self.scale), 1.0)]
        return detect.find_faces(photo, **options)

    def enlarge(
        self, lr: UInt8[np.ndarray, 'n h w 3']
    ) -> UInt8[np.ndarray, 'n 112 96 3']:
        """Bicubic interpolation, for comparison."""
        return networks.enlarge_faces(np.asarray(lr), sizes=self._sizes)

    def features(
        self, faces: UInt8[np.ndarray, 'n 112 96 3']
    ) -> Float32[np.ndarray, 'n feature_dim'] | None:
        """Identity features of RGB faces from the CNNR of the run's recognition stage.

        They are not normalised; None if the run has no such stage.
        """
        if self.cnnr_stage is None:
            return None
        cnnr, params = self._cnnr
        return networks.extract_features(cnnr, params, faces, sizes=self._sizes)

    @functools.cached_property
    def _cnnr(self):
        assert self.cnnr_stage is not None
        params, record = checkpoint.load_networks(self.cnnr_stage, ['cnnr'])
        return models.cnnr_from(record), params['cnnr']


def magnification(landmarks: Float[np.ndarray, '5 2'], scale: int = 1) -> float:
    """Pixels of the aligned face (smaller by `scale`) per pixel of the photograph."""
    transform = align.face_transform(landmarks, scale)
    return math.sqrt(np.linalg.det(transform[:, :2]))


def _checked_levels(lr):
    if not np.issubdtype(lr.dtype, np.floating):
        raise ValueError(f'The faces are {lr.dtype}; expected uint8 or floats.')
    if lr.size and not (lr.min() >= 0 and 1 < lr.max() <= 255):
        raise ValueError(
            f'The faces have levels from {lr.min()} to {lr.max()}; expected 0..255, '
            'and not all in 0..1.'
        )
    return lr.astype(np.float32)
