"""Sets A-LR and A-SR (Sec. 4.2): the faces of a data set at low resolution and back."""

import dataclasses
import functools
from typing import Any

import numpy as np

from sicnn_jax.data import records
from sicnn_jax.data.preparing import convert


@dataclasses.dataclass(frozen=True)
class Degrade:
    """Takes aligned faces to low resolution and back to 112×96.

    It is a drop-in for `convert.Convert` that runs in one process, on JAX's device.

    Attributes:
      scale: of the degradation, 8 or 4.
      kind: `bicubic` or `area`.
      checkpoint: directory of a finished stage whose CNNH enlarges the faces; None for
        bicubic interpolation.
      encoding: `png` or `jpeg`.
    """

    scale: int
    kind: str = 'bicubic'
    checkpoint: str | None = None
    encoding: str = 'png'

    def __post_init__(self) -> None:
        """Loads the networks. Raises DatasetError if none fits."""
        _ = self._network

    def __call__(self, photographs: list[convert.Photograph]) -> list[convert.Outcome]:
        """The face made from each; all must be aligned faces, as bytes."""
        from sicnn_jax import inference

        hr = np.stack([_decode(photograph) for photograph in photographs])
        lr = inference.degrade_faces(hr, scale=self.scale, kind=self.kind)
        faces = (self._network or inference.enlarge_faces)(lr)
        height = records.HEIGHT / self.scale
        return [
            [convert.ConvertedFace.of(face, height, self.encoding)] for face in faces
        ]

    def describe(self, alignment: Any) -> dict[str, Any]:
        """The alignment of the new set, which says what its faces are."""
        return {
            'of': alignment,
            'scale': self.scale,
            'degradation': self.kind,
            'enlarged_by': self.checkpoint or 'bicubic',
        }

    @functools.cached_property
    def _network(self):
        """`inference.frozen` of CNNH, or None."""
        if self.checkpoint is None:
            return None
        from sicnn_jax import checkpoint, images, inference, models

        expected = {
            'convention': images.CONVENTION,
            'scale': self.scale,
            'degradation': self.kind,
        }
        try:
            params, record = checkpoint.load_networks(self.checkpoint, ['cnnh'])
            remedy = 'Name a checkpoint that was, or the same scale and degradation.'
            checkpoint.check_record(record, expected, self.checkpoint, remedy)
        except checkpoint.CheckpointError as error:
            raise records.DatasetError(str(error)) from error
        return inference.frozen(models.cnnh_from(record), params['cnnh'])


def _decode(photograph: convert.Photograph) -> np.ndarray:
    if not isinstance(photograph.content, bytes):
        raise records.DatasetError(
            f'{photograph.key} is not in a data set that sicnn_jax.data.prepare wrote; '
            'only the faces of such a data set are taken to low resolution.'
        )
    return records.decode_image(photograph.content)
