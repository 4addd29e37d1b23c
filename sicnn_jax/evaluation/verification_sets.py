"""The faces of verification sets: LFW, YouTube Faces, InsightFace's, any pairs."""

import mimetypes
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sicnn_jax.data import align, image_files, recordio, records
from sicnn_jax.evaluation.pairs import Pair, VerificationSet, read_pairs
from sicnn_jax.names import ByName, canonical

_FOLDS = 10
_CHUNK = 256
# Faces that stay in memory from one pass to the next: 600 MB.
_KEPT = 20_000

Chunk = tuple[np.ndarray, np.ndarray]


class Image(NamedTuple):
    """An image: the side of pairs that it belongs to, its key, where it is."""

    side: int
    key: str
    content: image_files.Content


def open_set(
    path: str | os.PathLike, data: str | os.PathLike = '', split: str = 'test'
) -> VerificationSet:
    """Reads a list of pairs or a `.bin` of InsightFace.

    The pairs of a `.bin` are in ten folds, one after the other.

    Args:
      path: of the list or the `.bin`.
      data: shards with the faces that the list names; '' if those are files.
      split: of the shards.

    Raises:
      ValueError: as `pairs.read_pairs`, `recordio.read_bin` and
        `records.read_faces`, or videos are to come from shards.
    """
    path = Path(path)
    if path.suffix.lower() != '.bin':
        listed = read_pairs(path)
        if not data:
            return listed
        if listed.kind == 'ytf':
            raise ValueError(f'{path} names folders of frames: give them by --images.')
        wanted = {
            canonical(key) for pair in listed.pairs for key in (pair.key_a, pair.key_b)
        }
        faces = records.read_faces(data, split)
        images = {f.key: f.image for f in faces if canonical(f.key) in wanted}
        return listed._replace(images=ByName(images))
    encoded, same = recordio.read_bin(path)
    keys = [f'{pair:06d}_{side}' for pair in range(len(same)) for side in 'ab']
    pairs = [
        Pair(keys[2 * i], keys[2 * i + 1], bool(same[i]), i * _FOLDS // len(same))
        for i in range(len(same))
    ]
    images = dict(zip(keys, encoded, strict=True))
    return VerificationSet(path.stem.lower(), pairs, images)


def find_images(
    found: VerificationSet,
    keys: Sequence[str],
    directory: str | os.PathLike,
    frames: int = 0,
) -> tuple[list[Image], dict[str, str]]:
    """Where the images of some sides of pairs are.

    Args:
      found: the set; the sides of 'ytf' are folders of frames.
      keys: of the sides, relative to the directory.
      directory: of the images, where the set does not bring its own.
      frames: of a video, so many at most, evenly spaced; 0 for all.

    Returns:
      The images in the order of the keys, and why there are none, by key.

    Raises:
      DatasetError: a key is a path that leaves the directory.
    """
    images, missing = [], {}
    for side, key in enumerate(keys):
        contents: Mapping[str, image_files.Content]
        if found.images is not None:
            contents = {key: found.images[key]} if key in found.images else {}
        elif found.kind == 'ytf':
            contents = _frames(directory, key, frames)
        else:
            path = image_files.path_below(directory, key)
            contents = {key: path} if os.path.isfile(path) else {}
        if not contents:
            missing[key] = 'not there'
        images += [Image(side, name, content) for name, content in contents.items()]
    return images, missing


class Album:
    """The faces of images, in chunks, as often as they are asked for.

    Args:
      images: in the order of their sides.
      landmarks: five points by key, [5, 2]; None to take the middle of each image.

    Attributes:
      missing: why there is no face of an image, by key; complete after one pass.
    """

    def __init__(
        self, images: Sequence[Image], landmarks: Mapping[str, np.ndarray] | None
    ):
        self.missing: dict[str, str] = {}
        self._images = images
        self._landmarks = landmarks
        self._kept: list[Chunk] | None = None

    def __iter__(self) -> Iterator[Chunk]:
        """Yields int [n], the sides, and uint8 [n, 112, 96, 3], n ≥ 1."""
        if self._kept is not None:
            yield from self._kept
            return
        keep = len(self._images) <= _KEPT
        kept = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(self._images), _CHUNK):
                part = self._images[start : start + _CHUNK]
                # Not in threads: how Pillow warns of huge images is set process-wide.
                loaded = [self._load(image) for image in part]
                placed = pool.map(self._place, part, loaded)
                found = [
                    (image.side, face)
                    for image, face in zip(part, placed, strict=True)
                    if face is not None
                ]
                if not found:
                    continue
                sides, faces = zip(*found, strict=True)
                chunk = np.array(sides), np.stack(faces)
                if keep:
                    kept.append(chunk)
                yield chunk
        if keep:
            self._kept = kept

    def _load(self, image):
        if self._landmarks is not None and image.key not in self._landmarks:
            self.missing[image.key] = 'no landmarks'
            return None
        try:
            return image_files.load_image(image.content, image.key)
        except records.DatasetError as error:
            self.missing[image.key] = str(error)
            return None

    def _place(self, image, pixels):
        if pixels is None:
            return None
        if self._landmarks is None:
            return align.center_crop(pixels)
        try:
            return align.align_face(pixels, self._landmarks[image.key])
        except records.DatasetError as error:
            self.missing[image.key] = str(error)
            return None


def _frames(directory, video, most):
    """Paths of the frames of a video by their keys, in the order of their numbers."""
    folder = image_files.path_below(directory, video)
    names = [
        name
        for name in (os.listdir(folder) if os.path.isdir(folder) else ())
        if (mimetypes.guess_type(name)[0] or '').startswith('image/')
    ]
    # 0.9.jpg comes before 0.10.jpg.
    names.sort(key=lambda name: (len(name), name))
    if most and len(names) > most:
        places = np.linspace(0, len(names) - 1, most).round().astype(int)
        names = [names[place] for place in places]
    return {f'{video}/{name}': os.path.join(folder, name) for name in names}
