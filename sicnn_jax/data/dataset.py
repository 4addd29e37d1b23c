"""Where a run's faces come from: TFRecord shards, or rendered on the device."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from sicnn_jax.data import faces, pipeline, records

SOURCES = ('embedded', 'records', 'procedural')
_CHUNK = 64

Batch = Mapping[str, Any]


class Faces(Protocol):
    """Training batches, and held-out faces of other identities."""

    num_identities: int
    # How faces were brought into place; stored with every checkpoint.
    alignment: Any

    def train_batches(
        self,
        *,
        batch_size: int,
        seed: int,
        start_step: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        """This process' rows of each global batch; the order is one of (seed, step)."""

    def to_hr(self, batch: Batch) -> Batch:
        """On the device: batch → {'hr': uint8 [n, 112, 96, 3], 'label': int32 [n]}."""

    def test_faces(self, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Held-out faces uint8 [n, 112, 96, 3] and labels int32 [n]."""


@dataclasses.dataclass(frozen=True)
class RecordFaces:
    """Faces of a directory of shards, splits `train` and `test`."""

    directory: Path
    flip: bool = True
    shift: int = 0

    @property
    def num_identities(self) -> int:
        return records.read_dataset_info(self.directory).split('train').num_identities

    @property
    def alignment(self) -> Any:
        return records.read_dataset_info(self.directory).alignment

    def train_batches(self, **settings) -> Iterator[Batch]:
        return pipeline.train_batches(
            self.directory, 'train', flip=self.flip, shift=self.shift, **settings
        )

    def to_hr(self, batch: Batch) -> Batch:
        return batch

    def test_faces(self, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        return read_split(self.directory, 'test', limit)


@dataclasses.dataclass(frozen=True)
class ProceduralFaces:
    """Faces rendered inside the training step; needs no TensorFlow and no disk.

    The first `identities` are for training, the `test_identities` after them for
    evaluation.
    """

    seed: int
    identities: int
    images_per_identity: int
    test_identities: int
    test_images_per_identity: int

    @property
    def num_identities(self) -> int:
        return self.identities

    @property
    def alignment(self) -> Any:
        return {'kind': 'procedural'}

    def train_batches(
        self,
        *,
        batch_size: int,
        seed: int,
        start_step: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        rows = batch_size // process_count
        mine = slice(process_index * rows, (process_index + 1) * rows)
        for step in itertools.count(start_step):
            rng = np.random.default_rng([seed, step])
            label = rng.integers(self.identities, size=batch_size, dtype=np.int32)
            image = rng.integers(
                self.images_per_identity, size=batch_size, dtype=np.int32
            )
            yield {'label': label[mine], 'image': image[mine]}

    def to_hr(self, batch: Batch) -> Batch:
        hr = faces.render_faces(self.seed, batch['label'], batch['image'])
        return {'hr': hr, 'label': batch['label']}

    def test_faces(self, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        label, image = _every_image(self.test_identities, self.test_images_per_identity)
        label, image = label[:limit], image[:limit]
        rendered = _render(self.seed, self.identities + label, image)
        return np.concatenate(list(rendered)), label


def open_faces(config: ConfigDict, workdir: Path) -> Faces:
    """The faces that a config names.

    Args:
      config: `source`: 'records' (shards in `dir`), 'embedded' (procedural faces,
        written as shards to `dir` or the workdir first) or 'procedural' (rendered on
        the device); `seed`, `identities`, `images_per_identity`, `test_identities`,
        `test_images_per_identity` of the latter two; `flip` and `shift` of shards.
      workdir: of the run.

    Returns:
      An implementation of `Faces`.

    Raises:
      ValueError: the source is unknown, or 'records' lacks a directory.
      DatasetError: the shards are not as they should be.
    """
    procedural = ProceduralFaces(
        config.seed,
        config.identities,
        config.images_per_identity,
        config.test_identities,
        config.test_images_per_identity,
    )
    if config.source == 'procedural':
        return procedural
    if config.source == 'embedded':
        directory = Path(config.dir or workdir / 'data')
        write_embedded(directory, procedural)
    elif config.source == 'records':
        if not config.dir:
            raise ValueError(
                "data.source is 'records' but data.dir is empty: set "
                '--config.data.dir to a directory made by sicnn_jax.data.prepare.'
            )
        directory = Path(config.dir)
    else:
        raise ValueError(
            f'data.source is {config.source!r}; expected one of {", ".join(SOURCES)}.'
        )
    records.read_dataset_info(directory)
    return RecordFaces(directory, config.flip, config.shift)


def write_embedded(directory: Path, procedural: ProceduralFaces) -> None:
    """Writes procedural faces as shards, unless just these are there already.

    Raises:
      DatasetError: another data set is there.
    """
    alignment = {'kind': 'procedural', 'faces': dataclasses.asdict(procedural)}
    if (directory / records.SIDECAR).exists():
        found = records.read_dataset_info(directory).alignment
        if found != alignment:
            raise records.DatasetError(
                f'{directory} holds {found}, but the config asks for {alignment}. '
                'Set data.dir to another directory, or delete that one.'
            )
        return
    print(f'Writing procedural faces to {directory}', flush=True)
    splits = {
        'train': _records(
            procedural.seed, 0, procedural.identities, procedural.images_per_identity
        ),
        'test': _records(
            procedural.seed,
            procedural.identities,
            procedural.test_identities,
            procedural.test_images_per_identity,
        ),
    }
    records.write_dataset(directory, splits, alignment=alignment)


def read_split(
    directory: Path, split: str, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Faces uint8 [n, 112, 96, 3] and labels int32 [n] of a split, in file order."""
    batches = list(pipeline.eval_batches(directory, split, batch_size=256, limit=limit))
    return (
        np.concatenate([batch['hr'] for batch in batches]),
        np.concatenate([batch['label'] for batch in batches]),
    )


def _records(seed, first, identities, images) -> Iterator[records.Face]:
    label, image = _every_image(identities, images)
    start = 0
    for chunk in _render(seed, first + label, image):
        for row, pixels in enumerate(chunk, start=start):
            name = f'{first + label[row]:06d}'
            yield records.Face(
                pixels, name, f'{name}/{image[row]:04d}', source='procedural'
            )
        start += len(chunk)


def _every_image(identities: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Label and image index of each face, int32 [identities · images]."""
    label, image = np.divmod(np.arange(identities * images, dtype=np.int32), images)
    return label, image


def _render(seed, identities, images) -> Iterator[np.ndarray]:
    """Rendered faces in chunks of one size, so that the renderer compiles once."""
    render = jax.jit(faces.render_faces, static_argnums=0)
    for start in range(0, len(identities), _CHUNK):
        rows = np.arange(start, start + _CHUNK) % len(identities)
        chunk = render(seed, identities[rows], images[rows])
        yield np.asarray(chunk)[: len(identities) - start]
