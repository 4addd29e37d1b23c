"""The sources of a run's faces: TFRecord shards, or rendering on the device."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from sicnn_jax import lock
from sicnn_jax.data import (
    augment,
    pipeline,
    procedural_faces,
    records,
    salvage,
    write_records,
)
from sicnn_jax.data.targets import Targets, read_targets

__all__ = [
    'AUGMENTATION',
    'ON_ERROR',
    'PLACEMENTS',
    'SOURCES',
    'Batch',
    'Faces',
    'ProceduralFaces',
    'RecordFaces',
    'ResidentFaces',
    'device_bytes',
    'open_faces',
    'read_split',
    'write_embedded',
]

SOURCES = ('embedded', 'records', 'procedural')
PLACEMENTS = ('host', 'device')
ON_ERROR = ('raise', 'skip')
_CHUNK = 64
# Upper bounds of the fields of `augment.Augmentation`: degrees, or shares.
AUGMENTATION = {
    field.name: 45 if field.name == 'rotation' else 1
    for field in dataclasses.fields(augment.Augmentation)
}

Batch = Mapping[str, Any]


class Faces(Protocol):
    """Training batches, and held-out faces of other identities."""

    @property
    def num_identities(self) -> int:
        """The number of people to train on."""

    @property
    def alignment(self) -> Any:
        """How faces were brought into place; stored with every checkpoint."""

    @property
    def fingerprint(self) -> str:
        """Tells these faces from others; stored with every checkpoint."""

    @property
    def resident(self) -> Batch:
        """Arrays that every device always holds; `to_hr` finds them in the batch."""
        return {}

    @property
    def targets(self) -> Targets | None:
        """A teacher's features of the training faces, if there are any."""
        return None

    def draw(self, batch_size: int, seed: int, step: int) -> dict[str, np.ndarray]:
        """Random draws from (seed, step) for each face of the global batch."""

    def train_batches(
        self,
        *,
        batch_size: int,
        seed: int,
        start_step: int = 0,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        """This process's rows of each global batch, ordered by (seed, step) alone."""
        count = batch_size // process_count
        mine = slice(process_index * count, (process_index + 1) * count)
        for step in itertools.count(start_step):
            drawn = self.draw(batch_size, seed, step)
            yield {name: values[mine] for name, values in drawn.items()}

    def batch_keys(self, *, batch_size: int, seed: int, step: int) -> list[str]:
        """The keys of the faces of a step's global batch, in its order."""

    def to_hr(self, batch: Batch) -> Batch:
        """On the device: batch → {'hr': uint8 [n, 112, 96, 3], 'label': int32 [n]}, and
        'target' float32 [n, d] if there are targets.
        """

    def train_faces(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Training faces in stored order, in chunks, and their labels."""

    def test_faces(self, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Held-out faces uint8 [n, 112, 96, 3] and labels int32 [n]; n may be 0."""


@dataclasses.dataclass(frozen=True)
class RecordFaces(Faces):
    """Faces of a directory of shards: split `train` and, of held-out people, `test`."""

    directory: Path
    flip: bool = True
    shift: int = 0
    augmentation: augment.Augmentation = augment.NONE
    targets_file: str = ''

    @functools.cached_property
    def targets(self) -> Targets | None:
        """Read on first use, since evaluation does not need them."""
        if not self.targets_file:
            return None
        return read_targets(self.targets_file, self.directory)

    @property
    def num_identities(self) -> int:
        return records.read_dataset_info(self.directory).split('train').num_identities

    @property
    def alignment(self) -> Any:
        return records.read_dataset_info(self.directory).alignment

    @property
    def fingerprint(self) -> str:
        return records.fingerprint(self.directory)

    def draw(self, batch_size: int, seed: int, step: int) -> dict[str, np.ndarray]:
        return self.augmentation.draw(batch_size, seed, step)

    def train_batches(self, **order: int) -> Iterator[Batch]:
        batches = pipeline.train_batches(
            self.directory, 'train', flip=self.flip, shift=self.shift, **order
        )
        drawn = super().train_batches(**order)
        return ({**faces, **draws} for faces, draws in zip(batches, drawn, strict=True))

    def batch_keys(self, *, batch_size: int, seed: int, step: int) -> list[str]:
        return pipeline.batch_keys(
            self.directory, 'train', batch_size=batch_size, seed=seed, step=step
        )

    def to_hr(self, batch: Batch) -> Batch:
        if 'draws' not in batch:
            return batch
        hr = augment.augment(self.augmentation, batch['hr'], batch['draws'])
        return {name: batch[name] for name in batch if name != 'draws'} | {'hr': hr}

    def train_faces(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for batch in pipeline.eval_batches(self.directory, 'train', batch_size=_CHUNK):
            yield batch['hr'], batch['label']

    def test_faces(self, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        if 'test' not in records.read_dataset_info(self.directory).splits:
            none = np.zeros((0, records.HEIGHT, records.WIDTH, 3), np.uint8)
            return none, np.zeros(0, np.int32)
        return read_split(self.directory, 'test', limit)


@dataclasses.dataclass(frozen=True)
class ResidentFaces(RecordFaces):
    """The same shards, held in the memory of the device: only indices are sent to it.

    The order differs from that of `RecordFaces`. As there, each epoch visits every
    face once, and epochs run into each other.
    """

    @functools.cached_property
    def resident(self) -> Batch:
        print(f'Reading {self.directory} into memory', flush=True)
        faces, labels = read_split(self.directory, 'train')
        held = {'faces': faces, 'labels': labels}
        if self.targets is not None:
            held['targets'] = self.targets.features
        return held

    def draw(self, batch_size: int, seed: int, step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([seed, 1, step])
        mirrored = rng.random(batch_size) < 0.5 * self.flip
        moved = rng.integers(-self.shift, self.shift + 1, (batch_size, 2))
        return {
            'index': self._indices(batch_size, seed, step).astype(np.int32),
            'mirrored': mirrored,
            'moved': moved.astype(np.int32),
            **super().draw(batch_size, seed, step),
        }

    def train_batches(self, **order: int) -> Iterator[Batch]:
        # Nothing is read while training.
        return Faces.train_batches(self, **order)

    def batch_keys(self, *, batch_size: int, seed: int, step: int) -> list[str]:
        keys = records.read_keys(self.directory, 'train')
        return [keys[index] for index in self._indices(batch_size, seed, step)]

    def _indices(self, batch_size, seed, step):
        """Positions of a step's faces in the order of the files."""
        size = self._size
        places = range(step * batch_size, (step + 1) * batch_size)
        return np.array([_permutation(seed, i // size, size)[i % size] for i in places])

    @functools.cached_property
    def _size(self):
        return records.read_dataset_info(self.directory).split('train').num_examples

    def to_hr(self, batch: Batch) -> Batch:
        hr = batch['faces'][batch['index']]
        hr = jnp.where(batch['mirrored'][:, None, None, None], hr[:, :, ::-1], hr)
        if self.shift:
            hr = jax.vmap(_move)(hr, batch['moved'])
        found = {'hr': hr, 'label': batch['labels'][batch['index']]}
        if 'targets' in batch:
            found['target'] = batch['targets'][batch['index']]
        if 'draws' in batch:
            found['draws'] = batch['draws']
        return super().to_hr(found)


@dataclasses.dataclass(frozen=True)
class ProceduralFaces(Faces):
    """Faces rendered inside the training step; needs no TensorFlow and no disk.

    The first `identities` are for training, the `test_identities` after them for
    evaluation.
    """

    seed: int
    identities: int
    images_per_identity: int
    test_identities: int
    test_images_per_identity: int
    misalignment: float = 0.0

    @property
    def described(self) -> dict[str, Any]:
        """What the faces depend on."""
        fields = dataclasses.asdict(self)
        if not self.misalignment:
            # Older data sets and runs lack this field.
            del fields['misalignment']
        return fields

    @property
    def num_identities(self) -> int:
        return self.identities

    @property
    def alignment(self) -> Any:
        return {'kind': 'procedural'}

    @property
    def fingerprint(self) -> str:
        return ', '.join(f'{k} {v}' for k, v in self.described.items())

    def draw(self, batch_size: int, seed: int, step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([seed, step])
        label = rng.integers(self.identities, size=batch_size, dtype=np.int32)
        image = rng.integers(self.images_per_identity, size=batch_size, dtype=np.int32)
        return {'label': label, 'image': image}

    def batch_keys(self, *, batch_size: int, seed: int, step: int) -> list[str]:
        drawn = self.draw(batch_size, seed, step)
        return list(map(_key, drawn['label'], drawn['image']))

    def to_hr(self, batch: Batch) -> Batch:
        hr = procedural_faces.render_faces(
            self.seed, batch['label'], batch['image'], self.misalignment
        )
        return {'hr': hr, 'label': batch['label']}

    def train_faces(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        label, image = _every_image(self.identities, self.images_per_identity)
        for start, chunk in enumerate(self.render(label, image)):
            yield chunk, label[start * _CHUNK :][: len(chunk)]

    def test_faces(self, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        label, image = _every_image(self.test_identities, self.test_images_per_identity)
        label, image = label[:limit], image[:limit]
        rendered = self.render(self.identities + label, image)
        return np.concatenate(list(rendered)), label

    def render(
        self, identities: np.ndarray, images: np.ndarray
    ) -> Iterator[np.ndarray]:
        """Chunks of faces, all rendered at one size, so that it compiles once."""
        render = jax.jit(procedural_faces.render_faces, static_argnums=(0, 3))
        at_once = procedural_faces.AT_ONCE
        size = min(_CHUNK, -(-len(identities) // at_once) * at_once)
        for start in range(0, len(identities), _CHUNK):
            rows = np.arange(start, start + size) % len(identities)
            chunk = render(self.seed, identities[rows], images[rows], self.misalignment)
            yield np.asarray(chunk)[: len(identities) - start]


def open_faces(config: ConfigDict, workdir: Path) -> Faces:
    """The faces that a config names.

    Args:
      config: `source`: 'records' (shards in `dir`), 'embedded' (procedural faces,
        first written as shards to `dir` or the workdir) or 'procedural' (rendered on
        the device). For the last two: `seed`, `identities`, `images_per_identity`,
        `test_identities`, `test_images_per_identity`, `misalignment`. For shards:
        `flip`, `shift`, the fields of `augment.Augmentation`, `placement` ('host' or
        'device'), `on_error` ('raise' or 'skip'), `max_error_share`, and on the device
        `targets`.
      workdir: of the run.

    Returns:
      An implementation of `Faces`.

    Raises:
      ValueError: the shards do not fit the device's memory.
      DatasetError: the shards are damaged or missing.
    """
    names = [field.name for field in dataclasses.fields(ProceduralFaces)]
    procedural = ProceduralFaces(**{name: config[name] for name in names})
    if config.source == 'procedural':
        return procedural
    if config.source == 'embedded':
        directory = Path(config.dir or workdir / 'data')
        write_embedded(directory, procedural)
    else:
        directory = Path(config.dir)
    if config.on_error == 'skip':
        directory = salvage.salvage(
            directory, workdir / 'salvaged', max_share=config.max_error_share
        )
    info = records.read_dataset_info(directory)
    augmentation = augment.Augmentation(**{name: config[name] for name in AUGMENTATION})
    if config.placement == 'host':
        return RecordFaces(directory, config.flip, config.shift, augmentation)
    _check_fits(info)
    return ResidentFaces(
        directory, config.flip, config.shift, augmentation, config.targets
    )


def write_embedded(directory: Path, procedural: ProceduralFaces) -> None:
    """Writes procedural faces as shards, unless exactly these exist already.

    Raises:
      DatasetError: the directory has another data set.
      InUseError: another process is writing it.
    """
    alignment = {'kind': 'procedural', 'faces': procedural.described}
    if (directory / records.SIDECAR).exists():
        found = records.read_dataset_info(directory).alignment
        if found != alignment:
            raise records.DatasetError(
                f'{directory} holds {found}, but the config asks for {alignment}. '
                'Set data.dir to another directory, or delete that one.'
            )
        return
    trained = procedural.identities
    held_out = range(trained, trained + procedural.test_identities)
    splits, identities = {}, {}
    for split, people, images in (
        ('train', range(trained), procedural.images_per_identity),
        ('test', held_out, procedural.test_images_per_identity),
    ):
        splits[split] = _records(procedural, people, images)
        identities[split] = sorted(map(_name, people))
    with lock.hold(directory):
        print(f'Writing procedural faces to {directory}', flush=True)
        write_records.write_dataset(
            directory, splits, identities=identities, alignment=alignment
        )


def read_split(
    directory: Path, split: str, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Faces uint8 [n, 112, 96, 3] and labels int32 [n] of a split, in file order."""
    batches = list(pipeline.eval_batches(directory, split, batch_size=256, limit=limit))
    faces, labels = ([batch[name] for batch in batches] for name in ('hr', 'label'))
    return np.concatenate(faces), np.concatenate(labels)


def device_bytes() -> int:
    """The memory of one device of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    # Backends without statistics compute in the host's memory.
    host = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return stats.get('bytes_limit', host)


def _check_fits(info):
    size = info.split('train').num_examples * records.HEIGHT * records.WIDTH * 3
    available = device_bytes()
    # The rest is for networks and their activations.
    if size > 0.8 * available:
        raise ValueError(
            f"data.placement is 'device', but the faces of {info.directory} take "
            f'{size / 2**30:.2f} GiB, more than four fifths of the '
            f"{available / 2**30:.2f} GiB of a device: set data.placement to 'host'."
        )


@functools.lru_cache(maxsize=2)
def _permutation(seed, epoch, size):
    """The order of an epoch of `ResidentFaces`."""
    return np.random.default_rng([seed, 0, epoch]).permutation(size)


def _move(face, offset):
    """A face with each pixel taken from `offset` (y, x) away, edges repeated."""
    rows, columns = (
        jnp.clip(jnp.arange(size) + distance, 0, size - 1)
        for size, distance in zip(face.shape[:2], offset, strict=True)
    )
    return face[rows][:, columns]


def _records(procedural, people, images):
    label, image = _every_image(len(people), images)
    identity = people.start + label
    rendered = itertools.chain.from_iterable(procedural.render(identity, image))
    for pixels, i, j in zip(rendered, identity, image, strict=True):
        yield records.Face(pixels, _name(i), _key(i, j), source='procedural')


def _key(identity, image):
    return f'{_name(identity)}/{image:04d}'


def _name(identity):
    return f'{identity:06d}'


def _every_image(identities: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Label and image index of each face, int32 [identities · images]."""
    return np.divmod(np.arange(identities * images, dtype=np.int32), images)
