"""Batches from shards, by tf.data.

The order of training examples is a function of (seed, step) alone: every process
reads the same global stream of serialised examples and decodes its own rows of each
global batch. Resuming skips whole epochs by arithmetic and the rest undecoded.
"""

import functools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from sicnn_jax.data import records, runtime
from sicnn_jax.data.records import DatasetError

# The order of examples depends on these as well as on seed and step. They are
# constants, not functions of the machine, so that every machine sees the same order.
_SHUFFLE_BYTES = 512 * 2**20
_CYCLE_LENGTH = 16
_BLOCK_LENGTH = 16

_READ_BUFFER = 2**20
_PREFETCH = 4
_PNG_BEGINS = b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR'


def train_batches(
    directory: str | os.PathLike,
    split: str = 'train',
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    flip: bool = True,
    shift: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """An endless iterator of shuffled, augmented batches.

    Each epoch visits every face once, in its own order; epochs run into each other, so
    that every batch is full. Data sets of up to 512 MiB are shuffled whole, larger ones
    by shard and within a window of that size.

    Args:
      directory, split: a split of a data set that `write_records.write_dataset` wrote.
      batch_size: of the global batch, over all processes.
      seed: of order and augmentation, 0 <= seed < 2**32.
      start_step: the first batch is the one of this step.
      flip: mirror each face with probability one half.
      shift: move each face by up to this many pixels in x and y, edges repeated.
      process_index, process_count: this process gets the rows
        [index · batch_size / count, (index + 1) · batch_size / count) of each batch.

    Returns:
      An iterator of {'hr': uint8 [n, 112, 96, 3], 'label': int32 [n]}, where n is
      batch_size / process_count.

    Raises:
      DatasetError: the data set or an argument is wrong, raised at once; or a shard is
        damaged inside, raised while iterating.
    """
    info = records.read_dataset_info(directory)
    examples = info.split(split)
    _check_arguments(batch_size, seed, start_step, shift, process_index, process_count)
    local_size = batch_size // process_count
    first_row = process_index * local_size
    mine = slice(first_row, first_row + local_size)
    position = start_step * batch_size

    tf = runtime.import_tensorflow()
    dataset = _shuffled_stream(tf, examples, seed, position)
    if process_count > 1:
        dataset = dataset.batch(batch_size).map(lambda rows: rows[mine]).unbatch()

    def decode_and_augment(i, serialised):
        example = decode(tf, info.encoding, examples.num_identities, serialised)
        if flip or shift:
            place = position + i // local_size * batch_size + first_row + i % local_size
            example['hr'] = _augment(tf, example['hr'], seed, place, flip, shift)
        return example

    cpus = runtime.num_cpus()
    dataset = dataset.enumerate().map(decode_and_augment, num_parallel_calls=cpus)
    dataset = dataset.batch(local_size, drop_remainder=True).prefetch(_PREFETCH)
    return _iterate(tf, dataset, info, examples)


def batch_keys(
    directory: str | os.PathLike, split: str, *, batch_size: int, seed: int, step: int
) -> list[str]:
    """The keys of the faces of one global batch of `train_batches`, in its order.

    Raises:
      DatasetError: as `train_batches`.
    """
    info = records.read_dataset_info(directory)
    examples = info.split(split)
    _check_arguments(batch_size, seed, step, 0, 0, 1)
    tf = runtime.import_tensorflow()
    stream = _shuffled_stream(tf, examples, seed, step * batch_size).take(batch_size)
    feature = {'key': tf.io.FixedLenFeature([], tf.string)}
    keys = stream.map(lambda one: tf.io.parse_single_example(one, feature)['key'])
    return [key.decode() for key in _iterate(tf, keys, info, examples)]


def eval_batches(
    directory: str | os.PathLike,
    split: str,
    *,
    batch_size: int,
    limit: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Every face of a split once, in file order (as in `records.read_keys`).

    Args:
      directory, split: as in `train_batches`.
      batch_size: of all batches except the last, which may be smaller.
      limit: stop after this many faces.

    Returns:
      An iterator of {'hr': uint8 [n, 112, 96, 3], 'label': int32 [n]}.

    Raises:
      DatasetError: as `train_batches`.
    """
    info = records.read_dataset_info(directory)
    examples = info.split(split)
    if batch_size < 1:
        raise DatasetError(f'batch_size is {batch_size}; it must be at least 1.')
    if limit is not None and limit < 1:
        raise DatasetError(f'limit is {limit}; it must be at least 1, or None.')
    tf = runtime.import_tensorflow()
    dataset = _read(tf, [os.fspath(path) for path in examples.shards])
    if limit is not None:
        dataset = dataset.take(limit)
    decoded = functools.partial(decode, tf, info.encoding, examples.num_identities)
    dataset = dataset.map(decoded, num_parallel_calls=runtime.num_cpus())
    return _iterate(tf, dataset.batch(batch_size).prefetch(_PREFETCH), info, examples)


def decode(
    tf: Any, encoding: str, num_identities: int, serialised: Any
) -> dict[str, Any]:
    """A serialised example as {'hr': uint8 [112, 96, 3], 'label': int32 []}, in TF.

    Args:
      encoding: `png` or `jpeg`.
      num_identities: labels are below it.
      serialised: string tensor [].

    Raises:
      tf.errors.OpError: it is not an example, its image cannot be decoded or has
        another size, or its label is out of range.
    """
    kinds = {'image': tf.string, 'label': tf.int64}
    features = {name: tf.io.FixedLenFeature([], kind) for name, kind in kinds.items()}
    example = tf.io.parse_single_example(serialised, features)
    image, label = example['image'], example['label']
    size = _image_size(tf, encoding, image)
    expected = [records.HEIGHT, records.WIDTH]
    # Checked before decoding: a few kilobytes may claim to be gigapixels.
    checks = [
        tf.debugging.Assert(
            tf.reduce_all(size == expected),
            [f'the {encoding} image has another size than {expected}:', size],
        ),
        tf.debugging.Assert(
            (label >= 0) & (label < num_identities),
            [f'the label is out of range, expected 0 to {num_identities - 1}:', label],
        ),
    ]
    # Outside graphs, failed checks have already raised, and the others are None.
    with tf.control_dependencies([check for check in checks if check is not None]):
        if encoding == 'png':
            hr = tf.io.decode_png(image, channels=3)
        else:
            hr = tf.io.decode_jpeg(image, channels=3, dct_method='INTEGER_ACCURATE')
        label = tf.cast(label, tf.int32)
    return {'hr': tf.ensure_shape(hr, (*expected, 3)), 'label': label}


def _image_size(tf, encoding, image):
    """(height, width) from the header of an image, int32 [2]."""
    if encoding == 'jpeg':
        return tf.io.extract_jpeg_shape(image)[:2]
    # Signature, length and name of the first chunk; then width and height.
    begins = tf.strings.substr(image, 0, 16)
    is_png = tf.debugging.Assert(begins == _PNG_BEGINS, ['it is not a PNG image'])
    with tf.control_dependencies([is_png] if is_png is not None else []):
        sides = tf.strings.substr(image, 16, 8)
        size = tf.io.decode_raw(sides, tf.int32, little_endian=False)
    return tf.ensure_shape(size, [2])[::-1]


def _check_arguments(batch_size, seed, start_step, shift, process_index, process_count):
    if process_count < 1 or not 0 <= process_index < process_count:
        raise DatasetError(
            f'process_index is {process_index} of {process_count}; expected '
            '0 <= process_index < process_count.'
        )
    if batch_size < 1 or batch_size % process_count:
        raise DatasetError(
            f'batch_size is {batch_size}; it must be a positive multiple of the '
            f'{process_count} processes.'
        )
    if not 0 <= seed < 2**32:
        raise DatasetError(f'seed is {seed}; expected 0 <= seed < 2**32.')
    for name, value in (('start_step', start_step), ('shift', shift)):
        if value < 0:
            raise DatasetError(f'{name} is {value}; it must not be negative.')


def _read(tf, paths):
    return tf.data.TFRecordDataset(paths, buffer_size=_READ_BUFFER)


def _shuffled_stream(tf, examples, seed, position):
    """All epochs one after the other, from a global position on, serialised."""
    paths = [os.fspath(path) for path in examples.shards]
    example_bytes = sum(examples.shard_bytes) / examples.num_examples
    window = min(examples.num_examples, max(1, int(_SHUFFLE_BYTES / example_bytes)))

    def epoch_stream(epoch):
        # The seed of this function's graph: without it, the order would depend on
        # calls of tf.random.set_seed elsewhere. Zero means "none" to TF.
        tf.compat.v1.set_random_seed(seed + 1)
        order = tf.random.experimental.stateless_shuffle(paths, seed=[seed, epoch])
        return (
            tf.data.Dataset.from_tensor_slices(order)
            .interleave(
                functools.partial(_read, tf),
                cycle_length=min(len(paths), _CYCLE_LENGTH),
                block_length=_BLOCK_LENGTH,
                num_parallel_calls=min(len(paths), _CYCLE_LENGTH),
                deterministic=True,
            )
            .shuffle(window, seed=epoch, reshuffle_each_iteration=False)
        )

    first_epoch, rest = divmod(position, examples.num_examples)
    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
    return epochs.flat_map(epoch_stream).skip(rest)


def _augment(tf, image, seed, place, flip, shift):
    """Mirrors and shifts an image by randomness from (seed, place) alone."""
    draws = tf.random.stateless_uniform([3], seed=[tf.cast(seed, tf.int64), place])
    columns = tf.range(records.WIDTH)
    if flip:
        columns = tf.where(draws[0] < 0.5, columns[::-1], columns)
    if shift:
        dy, dx = tf.unstack(tf.cast(draws[1:] * (2 * shift + 1), tf.int32) - shift)
        rows = tf.clip_by_value(tf.range(records.HEIGHT) + dy, 0, records.HEIGHT - 1)
        image = tf.gather(image, rows, axis=0)
        shifted = tf.clip_by_value(tf.range(records.WIDTH) + dx, 0, records.WIDTH - 1)
        columns = tf.gather(columns, shifted)
    return tf.gather(image, columns, axis=1)


def _iterate(tf, dataset, info, examples):
    options = tf.data.Options()
    options.deterministic = True
    # Everything is set by hand. The tuning thread sleeps for up to a minute at a time,
    # and closing the iterator would wait for it.
    options.autotune.enabled = False
    options.threading.private_threadpool_size = runtime.num_cpus()
    options.threading.max_intra_op_parallelism = 1
    # It has its own name: at interpreter exit, `tf` may be gone before this generator.
    op_error = tf.errors.OpError
    try:
        yield from dataset.with_options(options).as_numpy_iterator()
    except op_error as error:
        raise _explain(tf, info, examples, error) from error


def _explain(tf, info, examples, error):
    """Finds what made reading fail, since tf.data does not name the file."""
    decoded = functools.partial(decode, tf, info.encoding, examples.num_identities)
    for path in examples.shards:
        count = 0
        try:
            for _ in _read(tf, os.fspath(path)).map(decoded):
                count += 1
        except tf.errors.OpError as fault:
            return DatasetError(
                f'{path} is damaged at record {count}: {fault.message} Copy it again '
                'or prepare the data set again.'
            )
    return DatasetError(
        f'Reading {info.directory} failed, but reading it again succeeded: {error}'
    )
