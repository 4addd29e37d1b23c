"""The settings of `prepare`."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Self

from sicnn_jax import paths
from sicnn_jax.data.preparing import convert, overlap

__all__ = ['Settings']


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the photographs of a source are processed.

    Attributes:
      landmarks: a file that `align.read_landmarks` reads, by the keys of the source,
        which are paths relative to it.
      detect: find the faces and their landmarks by MTCNN.
      rotations: with `detect`, if no face is upright, find faces turned by 90° or 180°.
      faces: which of the faces found: `largest`, `central` or `all`.
      encoding: `png` or `jpeg`.
      min_images: leave out identities with fewer usable images, except those of
        `test_list`.
      min_size: leave out images whose shorter side has fewer pixels.
      min_height: leave out faces whose 112 rows come from fewer rows of the photograph;
        with 112, no face is enlarged.
      degrade: take aligned faces to low resolution by this factor and back; the source
        must be one of our data sets, whose labels and splits are kept.
      degradation: `bicubic` or `area`.
      checkpoint: a finished stage whose CNNH enlarges them, instead of bicubic
        interpolation.
      exclude: files of names, one per line, and our data sets: the people that they
        name are left out of training, as are copies of the data sets' faces.
      duplicate_bits: training faces are copies if their fingerprints differ in at most
        this many bits from a face of the test split or of `exclude`; −1 keeps copies.
      seed: of the choice of test identities and the order of training faces.
      test_identities: how many identities, chosen at random, go to the split `test`:
        a fraction if below 1, else a count.
      test_list: instead, a file with their names, one per line.
      identity: the feature of a TFDS data set that identifies the person; by default
        the first of `sources.IDENTITY_FEATURES` that is a label.
    """

    landmarks: str | os.PathLike | None = None
    detect: bool = False
    rotations: bool = False
    faces: str = 'largest'
    encoding: str = 'png'
    min_images: int = 1
    min_size: int = 0
    min_height: float = convert.MIN_HEIGHT
    degrade: int | None = None
    degradation: str = 'bicubic'
    checkpoint: str | os.PathLike | None = None
    exclude: Sequence[str | os.PathLike] = ()
    duplicate_bits: int = overlap.DUPLICATE_BITS
    seed: int = 0
    test_identities: int | float = 0
    test_list: str | os.PathLike | None = None
    identity: str | None = None

    def local(self) -> Self:
        """The settings with local paths; raises PathError as `paths.local` does."""
        return dataclasses.replace(
            self,
            landmarks=self.landmarks and paths.local(self.landmarks),
            checkpoint=self.checkpoint and paths.local(self.checkpoint),
            test_list=self.test_list and paths.local(self.test_list),
            exclude=[paths.local(path) for path in self.exclude],
        )
