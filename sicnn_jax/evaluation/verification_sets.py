"""Faces of verification sets: LFW, YouTube Faces, InsightFace's sets, any pairs."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sicnn_jax.data import align, folders, image_files, recordio, records
from sicnn_jax.evaluation.pairs import Pair, VerificationSet, read_pairs
from sicnn_jax.names import canonical

_CHUNK = 256
# This many faces stay in memory from one pass to the next: 600 MB.
_KEPT = 20_000

Chunk = tuple[np.ndarray, np.ndarray]


class Image(NamedTuple):
    """An image: the side of pairs that it belongs to, its key and its place."""

    side: int
    key: str
    content: image_files.Content


class Located(NamedTuple):
    """Images of the sides of pairs, why a side has none, and what was passed over."""

    images: list[Image]
    missing: dict[str, str]
    passed_over: folders.PassedOver


def open_set(
    path: str | os.PathLike, data: str | os.PathLike = '', split: str = 'test'
) -> VerificationSet:
    """Reads a list of pairs or a `.bin` of InsightFace.

    The pairs of a `.bin` are in ten folds, one after the other.

    Args:
      path: of the list or the `.bin`.
      data: shards with the faces that the list names; '' if they are files.
      split: of the shards.

    Raises:
      ValueError: as `pairs.read_pairs`, `recordio.read_bin` and
        `records.read_faces`, or videos are requested from shards.
    """
    path = Path(path)
    if path.suffix.lower() != '.bin':
        listed = read_pairs(path)
        if not data:
            return listed
        if listed.kind == 'ytf':
            raise ValueError(f'{path} names folders of frames: give them by --images.')
        faces = ((face.key, face.image) for face in records.read_faces(data, split))
        return listed._replace(images=_named_as_listed(listed, faces))
    encoded, same = recordio.read_bin(path)
    keys = [f'{pair:06d}_{side}' for pair in range(len(same)) for side in 'ab']
    pairs = [
        Pair(keys[2 * i], keys[2 * i + 1], bool(same[i]), i * 10 // len(same))
        for i in range(len(same))
    ]
    images = dict(zip(keys, encoded, strict=True))
    return VerificationSet(path.stem.lower(), pairs, images)


def read_landmarks(
    found: VerificationSet, path: str | os.PathLike
) -> dict[str, np.ndarray]:
    """Five points of each image, [5, 2], by the keys of a set.

    Raises:
      DatasetError: as `align.read_landmarks`.
    """
    points = align.read_landmarks(path)
    return {**points, **_named_as_listed(found, points.items())}


def find_images(
    found: VerificationSet,
    keys: Sequence[str],
    directory: str | os.PathLike,
    frames: int = 0,
) -> Located:
    """Finds the images of some sides of pairs.

    Args:
      found: the set; the sides of 'ytf' are folders of frames.
      keys: of the sides, relative to the directory.
      directory: of the images, if the set does not bring its own.
      frames: the most frames per video, evenly spaced; 0 for all.

    Returns:
      The images in the order of the keys, the reasons why there are none, by key, and
      the other files among the frames.

    Raises:
      DatasetError: a key is a path that leaves the directory.
    """
    images, missing, passed_over = [], {}, folders.PassedOver()
    for side, key in enumerate(keys):
        contents: Mapping[str, image_files.Content]
        if found.images is not None:
            there = key in found.images
            contents, why = {key: found.images[key]} if there else {}, 'not there'
        elif found.kind == 'ytf':
            contents, why = _frames(directory, key, frames, passed_over)
        else:
            contents, why = _file(directory, key, found.kind == 'lfw')
        if not contents:
            missing[key] = why
        images += [Image(side, name, content) for name, content in contents.items()]
    return Located(images, missing, passed_over)


class Album:
    """The faces of images, in chunks; can be iterated over repeatedly.

    Args:
      images: in the order of their sides.
      landmarks: five points by key, [5, 2]; None to take the middle of each image.

    Attributes:
      missing: why an image has no face, by key; complete after one pass.
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
                # Not in threads: Pillow's warning of huge images is set process-wide.
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
            return image_files.load_picture(image.content, image.key)
        except records.DatasetError as error:
            self.missing[image.key] = str(error)
            return None

    def _place(self, image, picture):
        if picture is None:
            return None
        if self._landmarks is None:
            return align.center_crop(picture.pixels)
        try:
            landmarks = picture.from_file(self._landmarks[image.key])
            return align.align_face(picture.pixels, landmarks)
        except records.DatasetError as error:
            self.missing[image.key] = str(error)
            return None


def _named_as_listed(found, named):
    """From pairs of a key and a value, those that a list of pairs names.

    A name may be spelled differently than in the list. LFW's list names the person and
    the photograph; the suffix of the file is our guess.
    """
    wanted = {key for pair in found.pairs for key in (pair.key_a, pair.key_b)}
    called = {canonical(key): key for key in wanted}
    if found.kind == 'lfw':
        called |= {canonical(folders.stem(key)): key for key in wanted}
    listed = {}
    for key, value in named:
        if key in wanted:
            listed[key] = value
            continue
        other = called.get(canonical(key)) or called.get(canonical(folders.stem(key)))
        if other:
            listed.setdefault(other, value)
    return listed


def _file(directory, key, any_suffix):
    """The path of an image by its key, or the reason why there is none."""
    path = image_files.path_below(directory, key)
    there = folders.beside(path)
    if there is None:
        return {}, 'not there'
    if there == path or any_suffix:
        return {key: there}, ''
    return {}, f'not there, but {os.path.basename(there)} is'


def _frames(directory, video, most, passed_over):
    """The paths of a video's frames by their keys, in the order of their numbers."""
    folder = image_files.path_below(directory, video)
    if not os.path.isdir(folder):
        return {}, 'not there'
    names, deeper = folders.scan(folder, passed_over)
    for name in deeper:
        passed_over.add(f'{video}/{name}', 'folders among frames')
    # 0.9.jpg comes before 0.10.jpg.
    names.sort(key=lambda name: (len(name), name))
    if most and len(names) > most:
        places = np.linspace(0, len(names) - 1, most).round().astype(int)
        names = [names[place] for place in places]
    frames = {f'{video}/{name}': os.path.join(folder, name) for name in names}
    return frames, 'it has no frames'
