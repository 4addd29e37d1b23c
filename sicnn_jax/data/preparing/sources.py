"""Sources of photographs, before these are aligned and written as shards."""

import csv
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sicnn_jax import text_files
from sicnn_jax.data import folders, recordio, records, runtime
from sicnn_jax.data.image_files import Content, path_below
from sicnn_jax.data.records import DatasetError
from sicnn_jax.names import printable

CHOICES = """\
  a directory with one folder of images per identity; or such directories called
    train, val and test, which are its splits
  a list LIST.csv or LIST.parquet with the columns `path` and `identity`
  tfds:NAME, a data set of TensorFlow Datasets, or a directory that holds one
  train.rec of InsightFace (with train.idx next to it), or its directory
  a verification set NAME.bin of InsightFace
  a data set that this command wrote"""

# The names of folders that are splits, and their splits.
_SPLITS = {
    **dict.fromkeys(('train', 'training'), 'train'),
    **dict.fromkeys(('val', 'valid', 'validation'), 'val'),
    **dict.fromkeys(('test', 'testing'), 'test'),
}
_COLUMNS = ('path', 'identity')
# Names of the identity feature in TFDS data sets, the unambiguous ones first.
IDENTITY_FEATURES = (
    *('identity', 'identity_id', 'person', 'person_id', 'subject', 'subject_id'),
    *('label', 'name', 'class_id'),
)


@dataclasses.dataclass(frozen=True)
class Source:
    """Photographs of people.

    Attributes:
      name: of the source, such as `lfw`.
      keys: of each photograph, all different; a path if there is one.
      identities: the person that each shows.
      read: the images from one position to another, called with rising positions.
      splits: of each photograph, if the source has splits, which are kept.
      labels: with `splits`, the identities of each split in the order of its labels.
      alignment: of the faces, if they were aligned by us.
      passed_over: files of a folder that are not read.
      identity_feature: the feature of a TFDS data set that identities come from.
      in_files: whether `read` returns file names, or images already read.
    """

    name: str
    keys: Sequence[str]
    identities: Sequence[str]
    read: Callable[[int, int], Sequence[Content]]
    splits: Sequence[str] | None = None
    labels: Mapping[str, Sequence[str]] | None = None
    alignment: Any = None
    passed_over: folders.PassedOver = dataclasses.field(
        default_factory=folders.PassedOver
    )
    in_files: bool = True
    identity_feature: str | None = None


def open_source(
    spec: str | os.PathLike,
    data_dir: str | None = None,
    root: str | os.PathLike | None = None,
    identity: str | None = None,
) -> Source:
    """Opens the source that a path or a name stands for.

    Args:
      spec: one of `CHOICES`.
      data_dir: where TFDS keeps its data sets.
      root: the directory that all images of a list must be below, and that its paths
        are relative to; by default the directory of the list.
      identity: as in `settings.Settings`.

    Raises:
      DatasetError: it is none of `CHOICES`, is damaged or has no images.
    """
    text = os.fspath(spec)
    if text.startswith('tfds:'):
        return _open_tfds(text.removeprefix('tfds:'), data_dir, identity)
    path = pathlib.Path(spec)
    ours = (path / records.SIDECAR).exists()
    if not ours and (path / 'dataset_info.json').exists():
        return _open_tfds(path, data_dir, identity)
    if identity is not None:
        raise DatasetError(
            f'identity is {identity!r}, a feature of a TFDS data set, but {text} is '
            'not one: leave it out.'
        )
    if path.is_dir():
        if ours:
            return _open_records(path)
        if (path / 'train.rec').exists():
            return _open_recordio(path / 'train.rec')
        return _open_folder(path)
    suffix = path.suffix.lower() if path.exists() else None
    if suffix in ('.csv', '.parquet'):
        return _open_list(path, root)
    if suffix == '.rec':
        return _open_recordio(path)
    if suffix == '.bin':
        return _open_bin(path)
    problem = 'does not exist' if suffix is None else 'is not a source'
    raise DatasetError(f'{text} {problem}; expected one of:\n{CHOICES}')


def _open_folder(directory):
    """Opens folders of identities; images may lie deeper (`identity/video/frame.jpg`).

    Folders `train`, `val` and `test` that hold such folders are splits.
    """
    passed_over = folders.PassedOver()
    found = []
    for path in folders.walk(directory, passed_over):
        if '/' in path:
            found.append(path)
        else:
            passed_over.add(path, 'beside the folders of people')
    if not found:
        raise DatasetError(
            f'{directory} has no images in its folders{passed_over}. Expected '
            f'one folder per identity, such as NAME/NAME_0001.jpg, or another of:\n'
            f'{CHOICES}'
        )
    found.sort()
    keys = [printable(name) for name in found]
    splits = _splits_of_folders(keys)
    people = [key.split('/', 2)[1 if splits else 0] for key in keys]
    if splits:
        _check_apart(directory, keys, people)
    return Source(
        name=directory.resolve().name,
        keys=keys,
        identities=people,
        read=lambda start, stop: [
            os.path.join(directory, name) for name in found[start:stop]
        ],
        splits=splits,
        passed_over=passed_over,
    )


def _splits_of_folders(keys):
    """The split of each image, by its first folder; None if the folders are people."""
    first = {key.partition('/')[0] for key in keys}
    called = {folder: _SPLITS.get(folder.lower(), '') for folder in first}
    if not all(called.values()) or any(key.count('/') < 2 for key in keys):
        return None
    if 'test' not in called.values():
        # Commands look under this name for faces to evaluate by.
        called |= {folder: 'test' for folder, name in called.items() if name == 'val'}
    return [called[key.partition('/')[0]] for key in keys]


def _check_apart(directory, keys, names):
    """Checks that nobody is in two splits."""
    of: dict[str, str] = {}
    for key, name in zip(keys, names, strict=True):
        folder = key.partition('/')[0]
        other = of.setdefault(name, folder)
        if other != folder:
            raise DatasetError(
                f'{directory} has {name} in {other} and in {folder}, which are splits: '
                f'nobody may be in two. Expected different people in each; give one of '
                f'them (--source={os.path.join(directory, other)}), or all images as a '
                'list (LIST.csv with path and identity) and --test_identities=0.1.'
            )


def _open_list(path, root):
    rows = (_read_csv if path.suffix.lower() == '.csv' else _read_parquet)(path)
    if not rows:
        raise DatasetError(f'{path} is empty; expected a line for each image.')
    root = path.parent if root is None else root
    seen, files = set(), []
    for number, (key, identity) in enumerate(rows, start=1):
        where = f'{path}, image {number}'
        if not key or not identity:
            raise DatasetError(f'{where}: path or identity is missing.')
        if key in seen:
            raise DatasetError(f'{where}: {key} occurs a second time.')
        seen.add(key)
        try:
            files.append(path_below(root, key))
        except DatasetError as error:
            raise DatasetError(
                f'{where}: {error} Or give --list_root=DIR, a directory above all '
                'images.'
            ) from error
    keys, identities = zip(*rows, strict=True)
    return Source(
        name=path.stem,
        keys=keys,
        identities=identities,
        read=lambda start, stop: files[start:stop],
    )


def _read_csv(path):
    try:
        rows = text_files.csv_rows(text_files.read_text(path))
        columns = rows.fieldnames or ()
        found = [tuple(row.get(column) for column in _COLUMNS) for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise DatasetError(f'{path} cannot be read as a list: {error}') from error
    _check_columns(path, columns)
    return found


def _read_parquet(path):
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DatasetError(
            f"{path}: reading Parquet needs pyarrow: pip install 'sicnn_jax[parquet]', "
            'or give the list as CSV.'
        ) from error
    try:
        _check_columns(path, pq.read_schema(path).names)
        table = pq.read_table(path, columns=list(_COLUMNS))
        columns = [table[column].cast(pa.string()).to_pylist() for column in _COLUMNS]
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f'{path} cannot be read as a list: {error}') from error
    return list(zip(*columns, strict=True))


def _check_columns(path, found):
    missing = [column for column in _COLUMNS if column not in found]
    if missing:
        raise DatasetError(
            f'{path} has no column {missing[0]!r}; it has {", ".join(found)}. '
            f'Expected {" and ".join(_COLUMNS)}.'
        )


def _open_recordio(path):
    parts, labels = recordio.read_index(path)
    return Source(
        name=path.resolve().parent.name,
        keys=[f'{part.offset:012d}' for part in parts],
        identities=[str(label) for label in labels],
        read=lambda start, stop: parts[start:stop],
    )


def _open_bin(path):
    """Opens a verification set as a split `test`.

    It tells whether two images show one person, but not which person. So the people of
    each pair count as different from the people of all other pairs.
    """
    images, same = recordio.read_bin(path)
    pairs = range(len(same))
    return Source(
        name=path.stem,
        keys=[f'{pair:06d}_{side}' for pair in pairs for side in 'ab'],
        identities=[
            f'pair_{pair:06d}' if same[pair] else f'pair_{pair:06d}_{side}'
            for pair in pairs
            for side in 'ab'
        ],
        read=lambda start, stop: images[start:stop],
        splits=['test'] * len(images),
        in_files=False,
    )


def _open_records(directory):
    info = records.read_dataset_info(directory)

    def faces():
        for split in info.splits:
            for face in records.read_faces(directory, split):
                yield split, face

    found = [(split, face.key, face.name) for split, face in faces()]
    return Source(
        name=directory.resolve().name,
        keys=[key for _, key, _ in found],
        identities=[name for _, _, name in found],
        read=_Stream(lambda: (face.image for _, face in faces())),
        splits=[split for split, _, _ in found],
        labels={name: split.identity_names for name, split in info.splits.items()},
        alignment=info.alignment,
        in_files=False,
    )


def _open_tfds(
    where: str | pathlib.Path, data_dir: str | None, wanted: str | None
) -> Source:
    runtime.import_tensorflow()
    import tensorflow_datasets as tfds

    try:
        if isinstance(where, pathlib.Path):
            builder = tfds.builder_from_directory(os.fspath(where))
        else:
            builder = tfds.builder(where, data_dir=data_dir)
            builder.download_and_prepare()
    # TFDS raises many kinds of error: for an unknown name, without a network, …
    except Exception as error:
        raise DatasetError(
            f'{where} cannot be opened by TensorFlow Datasets: {error}'
        ) from error
    features = builder.info.features
    image, identity = _choose_features(tfds, features, where, wanted)

    def examples(name, decoders=None):
        """The key of each example, and the value of one of its features."""
        for split in builder.info.splits:
            dataset = builder.as_dataset(
                split=split,
                shuffle_files=False,
                # One file after the other, so that the order is always the same.
                read_config=tfds.ReadConfig(interleave_cycle_length=1),
                decoders=tfds.decode.PartialDecoding({name: features[name]}, decoders),
            )
            for i, example in enumerate(dataset.as_numpy_iterator()):
                yield f'{split}/{i:08d}', example[name]

    found = [
        (key, _identity(features[identity], value, f'{where}, {key}'))
        for key, value in examples(identity)
    ]
    if not found:
        raise DatasetError(f'{where} has no images.')
    encoded = {image: tfds.decode.SkipDecoding()}
    return Source(
        name=builder.info.name,
        keys=[key for key, _ in found],
        identities=[name for _, name in found],
        read=_Stream(lambda: (value for _, value in examples(image, encoded))),
        in_files=False,
        identity_feature=identity,
    )


def _choose_features(tfds, features, where, wanted):
    """The names of the features with the images and the people."""
    images = [
        name
        for name, feature in features.items()
        if isinstance(feature, tfds.features.Image)
    ]
    candidates = IDENTITY_FEATURES if wanted is None else (wanted,)
    found = [name for name in candidates if name in features]
    if not images or not found:
        raise DatasetError(
            f'{where} has the features {", ".join(sorted(features))}; expected an '
            f'image and {"one of " if wanted is None else ""}{", ".join(candidates)}. '
            '--identity=FEATURE names the one that identifies the person.'
        )
    labels = [name for name in found if _is_label(features[name])]
    if not labels:
        feature = features[found[0]]
        others = sorted(name for name in features if _is_label(features[name]))
        raise DatasetError(
            f'{where}: the feature {found[0]!r} is not a label: it is '
            f'{type(feature).__name__} of {feature.tf_dtype} and the shape '
            f'{feature.shape}; expected one class, integer or text. Its labels are: '
            f'{", ".join(others) or "none"} (--identity=FEATURE).'
        )
    return images[0], labels[0]


def _is_label(feature):
    """Whether a feature is one class, integer or text per example."""
    # A dictionary of features or a sequence has another shape.
    if feature.shape != ():
        return False
    return feature.tf_dtype.is_integer or feature.tf_dtype.name == 'string'


def _identity(feature, value, where):
    if isinstance(value, bytes):
        return value.decode('utf-8', errors='replace')
    # Only classes have names, but not all classes do.
    if not getattr(feature, 'num_classes', None):
        return str(int(value))
    if not 0 <= value < feature.num_classes:
        raise DatasetError(
            f'{where} has the class {value} of {feature.num_classes}, which stands for '
            'an unknown person. --identity=FEATURE takes another feature.'
        )
    return feature.int2str(int(value))


class _Stream:
    """Reads forwards from a source that can only be read from its beginning."""

    def __init__(self, start: Callable[[], Iterable[bytes]]):
        self._start = start
        self._images: Iterator[bytes] = iter(())
        self._position: int | None = None

    def __call__(self, start: int, stop: int) -> list[bytes]:
        if self._position is None or start < self._position:
            self._images, self._position = iter(self._start()), 0
        for _ in range(start - self._position):
            next(self._images)
        self._position = stop
        return [next(self._images) for _ in range(start, stop)]
