import collections
import itertools

import numpy as np
import pytest

from sicnn_jax.data import pipeline, records, runtime
from sicnn_jax.data.records import DatasetError, Face
from tests.writing import write_set

COUNT = 23


def marked_image(i):
    """A picture that tells its number in every part and left from right."""
    image = np.full((records.HEIGHT, records.WIDTH, 3), i, np.uint8)
    image[:, : records.WIDTH // 2, 1] = 200
    image[:, :, 2] = np.arange(records.HEIGHT)[:, None]
    return image


@pytest.fixture(scope='module', params=records.ENCODINGS)
def dataset(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp('pipeline') / request.param
    faces = [Face(marked_image(i), f'p{i:02d}', f'{i}') for i in range(COUNT)]
    write_set(
        directory,
        {'train': faces, 'test': [Face(marked_image(0), 'q', 'q')]},
        alignment=None,
        encoding=request.param,
        shard_size=5,
    )
    return directory


def take(count, directory, **arguments):
    arguments = {'batch_size': 8, 'seed': 3, **arguments}
    return list(itertools.islice(pipeline.train_batches(directory, **arguments), count))


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        np.testing.assert_array_equal(batch['hr'], other['hr'])
        np.testing.assert_array_equal(batch['label'], other['label'])


def labels_of(batches):
    return np.concatenate([batch['label'] for batch in batches])


def test_batches(dataset):
    for batch in take(4, dataset):
        assert batch['hr'].shape == (8, 112, 96, 3)
        assert batch['hr'].dtype == np.uint8
        assert batch['label'].shape == (8,)
        assert batch['label'].dtype == np.int32
        for image, label in zip(batch['hr'], batch['label'], strict=True):
            assert np.abs(image[:, :, 0].astype(int) - label).max() <= 3


def test_every_epoch_has_every_face_once_in_another_order(dataset):
    labels = labels_of(take(COUNT, dataset, batch_size=3))
    epochs = labels.reshape(3, COUNT)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(COUNT))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert list(epochs[0]) != sorted(epochs[0])


def test_order_is_a_function_of_the_seed(dataset):
    arguments = {'shift': 2}
    first = take(4, dataset, **arguments)
    assert_same(first, take(4, dataset, **arguments))
    other = take(4, dataset, seed=4, **arguments)
    assert list(labels_of(first)) != list(labels_of(other))


def test_order_does_not_depend_on_the_global_seed_of_tensorflow(dataset):
    tf = runtime.import_tensorflow()
    first = take(4, dataset, shift=2)
    tf.random.set_seed(77)
    assert_same(first, take(4, dataset, shift=2))


@pytest.mark.parametrize('count', [2, 4])
def test_processes_share_one_stream(dataset, count):
    whole = take(7, dataset, shift=3)
    parts = [
        take(7, dataset, shift=3, process_index=i, process_count=count)
        for i in range(count)
    ]
    assert parts[0][0]['hr'].shape[0] == 8 // count
    joined = [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert_same(joined, whole)


@pytest.mark.parametrize('start', [1, 5, 23, 30])
def test_resuming_continues(dataset, start):
    whole = take(start + 3, dataset, shift=3)
    assert_same(whole[start:], take(3, dataset, shift=3, start_step=start))


def test_resuming_in_two_processes_continues(dataset):
    arguments = {'shift': 3, 'process_index': 1, 'process_count': 2}
    whole = take(9, dataset, **arguments)
    assert_same(whole[6:], take(3, dataset, start_step=6, **arguments))


def test_window_smaller_than_the_data_set(dataset, monkeypatch):
    example_bytes = sum(records.read_dataset_info(dataset).split('train').shard_bytes)
    monkeypatch.setattr(pipeline, '_SHUFFLE_BYTES', 4 * example_bytes / COUNT)
    labels = labels_of(take(COUNT, dataset, batch_size=2)).reshape(2, COUNT)
    for epoch in labels:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(COUNT))
    whole = take(8, dataset)
    assert_same(whole[5:], take(3, dataset, start_step=5))


def test_data_set_smaller_than_a_batch(dataset):
    (batch,) = take(1, dataset, split='test', batch_size=4)
    np.testing.assert_array_equal(batch['label'], np.zeros(4, np.int32))


def is_flipped(image):
    return image[:, :10, 1].mean() < image[:, -10:, 1].mean()


def test_half_the_faces_are_mirrored(dataset):
    batches = take(25, dataset, batch_size=32)
    flipped = [is_flipped(image) for batch in batches for image in batch['hr']]
    assert 0.43 < np.mean(flipped) < 0.57
    # Not the same faces every time.
    by_label = collections.defaultdict(set)
    for label, flip in zip(labels_of(batches), flipped, strict=True):
        by_label[label].add(flip)
    assert all(len(seen) == 2 for seen in by_label.values())
    plain = take(6, dataset, flip=False)
    assert not any(is_flipped(image) for batch in plain for image in batch['hr'])


def shift_between(image, moved, limit):
    """The (dy, dx) by which an image was moved, its edges repeated."""
    for dy, dx in itertools.product(range(-limit, limit + 1), repeat=2):
        rows = np.clip(np.arange(records.HEIGHT) + dy, 0, records.HEIGHT - 1)
        columns = np.clip(np.arange(records.WIDTH) + dx, 0, records.WIDTH - 1)
        if np.array_equal(moved, image[rows][:, columns]):
            return dy, dx
    raise AssertionError('The image was not shifted but changed.')


def test_shift_repeats_edges_and_is_uniform(dataset):
    originals = take(25, dataset, flip=False, batch_size=32)
    shifted = take(25, dataset, flip=False, batch_size=32, shift=2)
    seen = collections.Counter(
        shift_between(image, moved, 2)
        for before, after in zip(originals, shifted, strict=True)
        for image, moved in zip(before['hr'], after['hr'], strict=True)
    )
    assert len(seen) == 25
    assert min(seen.values()) > 12
    assert max(seen.values()) < 60


def test_flip_is_the_same_with_and_without_shift(dataset):
    plain = take(3, dataset)
    shifted = take(3, dataset, shift=1)
    for before, after in zip(plain, shifted, strict=True):
        assert [is_flipped(image) for image in before['hr']] == [
            is_flipped(image) for image in after['hr']
        ]


def test_evaluation_is_in_file_order(dataset):
    batches = list(pipeline.eval_batches(dataset, 'train', batch_size=10))
    assert [len(batch['hr']) for batch in batches] == [10, 10, 3]
    np.testing.assert_array_equal(labels_of(batches), np.arange(COUNT))
    images = np.concatenate([batch['hr'] for batch in batches])
    faces = records.read_faces(dataset, 'train')
    for image, face in zip(images, faces, strict=True):
        np.testing.assert_array_equal(image, records.decode_image(face.image))
    limited = pipeline.eval_batches(dataset, 'train', batch_size=10, limit=12)
    np.testing.assert_array_equal(labels_of(list(limited)), np.arange(12))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'split': 'validation'}, "no split 'validation'; it has test, train"),
        ({'batch_size': 9, 'process_count': 2}, 'positive multiple of the 2 processes'),
        ({'batch_size': 0}, 'batch_size is 0'),
        ({'process_index': 2, 'process_count': 2}, 'process_index is 2 of 2'),
        ({'seed': -1}, 'seed is -1'),
        ({'start_step': -1}, 'start_step is -1'),
        ({'shift': -1}, 'shift is -1'),
    ],
)
def test_wrong_arguments_are_told_at_once(dataset, arguments, message):
    with pytest.raises(DatasetError, match=message):
        pipeline.train_batches(dataset, **{'batch_size': 8, 'seed': 0, **arguments})


def test_wrong_evaluation_arguments(dataset):
    with pytest.raises(DatasetError, match='limit is 0'):
        pipeline.eval_batches(dataset, 'train', batch_size=2, limit=0)
    with pytest.raises(DatasetError, match='batch_size is 0'):
        pipeline.eval_batches(dataset, 'train', batch_size=0)
    with pytest.raises(DatasetError, match="no split 'x'"):
        pipeline.eval_batches(dataset, 'x', batch_size=2)


@pytest.fixture
def copy(dataset, tmp_path):
    for path in dataset.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_corrupt_shard_is_named(copy):
    shard = copy / 'faces-train.tfrecord-00002-of-00005'
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    with pytest.raises(DatasetError, match=f'{shard} is damaged at record 2'):
        take(3, copy)
    with pytest.raises(DatasetError, match=f'{shard} is damaged at record 2'):
        list(pipeline.eval_batches(copy, 'train', batch_size=8))


def test_shard_that_vanishes_is_named(copy):
    shard = copy / 'faces-train.tfrecord-00001-of-00005'
    batches = pipeline.train_batches(copy, batch_size=8, seed=0)
    shard.unlink()
    with pytest.raises(DatasetError, match=f'{shard} is damaged at record 0'):
        list(itertools.islice(batches, 3))


def test_image_that_does_not_decode_is_named(copy):
    """The record is whole, the image in it is not."""
    tf = runtime.import_tensorflow()
    shard = copy / 'faces-train.tfrecord-00003-of-00005'
    serialised = list(tf.data.TFRecordDataset(str(shard)).as_numpy_iterator())
    example = tf.train.Example.FromString(serialised[1])
    image = example.features.feature['image'].bytes_list
    image.value[0] = image.value[0][:30] + bytes(len(image.value[0]) - 30)
    serialised[1] = example.SerializeToString()
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for value in serialised:
            writer.write(value)
    with pytest.raises(DatasetError, match=f'{shard} is damaged at record 1'):
        list(pipeline.eval_batches(copy, 'train', batch_size=8))
