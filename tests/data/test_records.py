import functools
import json
import subprocess
import sys

import numpy as np
import pytest

from sicnn_jax.data import records, runtime, write_records
from sicnn_jax.data.records import DatasetError, Face
from tests.writing import write_set


def smooth_image(seed):
    """Random colours and gradients: compressible, and unlike any other."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 255, (2, 2, 3))
    y = np.linspace(0, 1, records.HEIGHT)[:, None, None]
    x = np.linspace(0, 1, records.WIDTH)[None, :, None]
    top = corners[0, 0] * (1 - x) + corners[0, 1] * x
    bottom = corners[1, 0] * (1 - x) + corners[1, 1] * x
    return (top * (1 - y) + bottom * y).astype(np.uint8)


def make_faces(count, identities=3, prefix=''):
    # The names run backwards, so that order of appearance is not that of the labels.
    return [
        Face(
            image=smooth_image(i),
            name=f'{prefix}person_{identities - 1 - i % identities}',
            key=f'{prefix}{i}.png',
            source='synthetic',
        )
        for i in range(count)
    ]


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    directory = tmp_path_factory.mktemp('records') / 'faces'
    splits = {'train': iter(make_faces(10)), 'test': make_faces(4, 2, 'test_')}
    write_set(directory, splits, alignment={'method': 'none'}, shard_size=4)
    return directory


@pytest.fixture
def copy(dataset, tmp_path):
    """The data set again, to be damaged."""
    target = tmp_path / 'faces'
    target.mkdir()
    for path in dataset.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def example(**changes):
    """A serialised example, with other values of its fields; None leaves one out."""
    tf = runtime.import_tensorflow()
    values = {'image': b'', 'name': b'n', 'key': b'k', 'source': b's'} | changes
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in values.items()
        if value is not None
    }
    made = tf.train.Example(features=tf.train.Features(feature=features))
    return made.SerializeToString()


def edit_sidecar(directory, **changes):
    path = directory / records.SIDECAR
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_info(dataset):
    info = records.read_dataset_info(dataset)
    assert info.encoding == 'png'
    assert info.alignment == {'method': 'none'}
    train = info.split('train')
    assert train.num_examples == 10
    assert train.shard_examples == (4, 4, 2)
    assert train.identity_names == ('person_0', 'person_1', 'person_2')
    assert train.num_identities == 3
    assert train.shards[0].name == 'faces-train.tfrecord-00000-of-00003'
    assert info.split('test').identity_names == ('test_person_0', 'test_person_1')


def test_faces_come_back_exactly(dataset):
    written = make_faces(10)
    read = list(records.read_faces(dataset, 'train'))
    assert [f.key for f in read] == [f.key for f in written]
    assert [f.name for f in read] == [f.name for f in written]
    assert {f.source for f in read} == {'synthetic'}
    for face, original in zip(read, written, strict=True):
        np.testing.assert_array_equal(records.decode_image(face.image), original.image)
    assert records.read_keys(dataset, 'test') == [f'test_{i}.png' for i in range(4)]


def test_jpeg_is_close_and_bytes_are_kept(tmp_path):
    faces = make_faces(3)
    write_set(tmp_path / 'a', {'train': faces}, alignment=None, encoding='jpeg')
    read = list(records.read_faces(tmp_path / 'a', 'train'))
    for face, original in zip(read, faces, strict=True):
        difference = records.decode_image(face.image).astype(int) - original.image
        assert np.abs(difference).max() <= 4
    write_set(tmp_path / 'b', {'train': read}, alignment=None, encoding='jpeg')
    assert list(records.read_faces(tmp_path / 'b', 'train')) == read


def test_tfds_opens_it(dataset):
    runtime.import_tensorflow()
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(dataset))
    assert builder.info.splits['train'].num_examples == 10
    assert builder.info.splits['test'].num_examples == 4
    assert builder.info.features['image'].shape == (112, 96, 3)
    assert builder.info.features['label'].num_classes == 3
    read = {e['key'].decode(): e for e in tfds.as_numpy(builder.as_dataset('train'))}
    for face in make_faces(10):
        example = read.pop(face.key)
        np.testing.assert_array_equal(example['image'], face.image)
        assert example['name'].decode() == face.name
        assert example['label'] == int(face.name[-1])
    assert not read


def test_given_identities_set_the_labels(tmp_path):
    names = ['person_2', 'nobody', 'person_0', 'person_1']
    info = write_records.write_dataset(
        tmp_path,
        {'train': make_faces(3)},
        alignment=None,
        identities={'train': names},
    )
    assert info.split('train').identity_names == tuple(names)
    with pytest.raises(DatasetError, match=r"0\.png.*'person_2' is not in"):
        write_records.write_dataset(
            tmp_path / 'other',
            {'train': make_faces(3)},
            alignment=None,
            identities={'train': names[1:]},
        )


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (
            np.zeros((96, 112, 3), np.uint8),
            r'a\.png: The image is uint8 \[96, 112, 3\]',
        ),
        (np.zeros((112, 96, 3), np.float32), r'a\.png: The image is float32'),
        (b'not an image', r'a\.png: its bytes are not an image'),
        (
            records.encode_image(np.zeros((112, 96, 3), np.uint8), 'jpeg'),
            r'a\.png: its bytes are a jpeg image of 112×96.*expected png',
        ),
    ],
)
def test_wrong_image_is_named(tmp_path, image, message):
    with pytest.raises(DatasetError, match=message):
        write_set(
            tmp_path / 'x', {'train': [Face(image, 'a', 'a.png')]}, alignment=None
        )
    assert not (tmp_path / 'x').exists()


def test_wrong_requests(tmp_path, dataset):
    faces = make_faces(2)

    def write(directory=tmp_path / 'x', splits=None, **arguments):
        write_set(directory, splits or {'train': faces}, alignment=None, **arguments)

    with pytest.raises(DatasetError, match='already holds a data set'):
        write(dataset)
    with pytest.raises(DatasetError, match=r"key '0\.png' occurs twice"):
        write(splits={'train': faces, 'test': faces})
    with pytest.raises(DatasetError, match="'test' has no faces"):
        write(splits={'train': faces, 'test': []})
    with pytest.raises(DatasetError, match="cannot be called 'all'"):
        write(splits={'all': faces})
    with pytest.raises(DatasetError, match="encoding is 'gif'"):
        write(encoding='gif')
    with pytest.raises(TypeError):
        write_set(tmp_path / 'x', {'train': faces}, alignment=object())
    assert not (tmp_path / 'x').exists()


NAMES = {'train': ['person_0', 'person_1', 'person_2']}


def interrupted_faces():
    yield from make_faces(6)
    raise KeyboardInterrupt


def test_interrupted_writing_leaves_nothing(tmp_path):
    directory = tmp_path / 'faces'
    with pytest.raises(KeyboardInterrupt):
        write_records.write_dataset(
            directory,
            {'train': interrupted_faces()},
            identities=NAMES,
            alignment=None,
            shard_size=2,
        )
    assert not directory.exists()


def test_interrupted_overwriting_leaves_the_old_one(copy):
    before = list(records.read_faces(copy, 'train'))
    with pytest.raises(KeyboardInterrupt):
        write_records.write_dataset(
            copy,
            {'train': interrupted_faces()},
            identities=NAMES,
            alignment=None,
            overwrite=True,
        )
    assert list(records.read_faces(copy, 'train')) == before


def test_overwriting_leaves_nothing_of_the_old_one(copy):
    info = write_set(copy, {'train': make_faces(3)}, alignment=None, overwrite=True)
    assert set(info.splits) == {'train'}
    assert sorted(path.name for path in copy.iterdir()) == [
        'dataset_info.json',
        'faces-train.tfrecord-00000-of-00001',
        'faces.json',
        'features.json',
    ]


def test_faces_stream_through(tmp_path):
    """No more faces are drawn ahead of the writer than a few a worker."""
    shard = tmp_path / 'x' / '.unfinished' / 'train-00000'
    limit = 16 * runtime.num_cpus() + 1
    drawn_before_first_write = []

    def faces():
        for i, face in enumerate(make_faces(limit + 60)):
            if not drawn_before_first_write and shard.exists():
                drawn_before_first_write.append(i)
            yield face

    write_records.write_dataset(
        tmp_path / 'x', {'train': faces()}, identities=NAMES, alignment=None
    )
    assert drawn_before_first_write[0] <= limit


def shard_of(directory):
    return directory / 'faces-train.tfrecord-00001-of-00003'


def test_missing_shard(copy):
    shard_of(copy).unlink()
    with pytest.raises(DatasetError, match=f'{shard_of(copy)} is missing: 0 bytes'):
        records.read_dataset_info(copy)


def test_empty_shard(copy):
    shard_of(copy).write_bytes(b'')
    with pytest.raises(DatasetError, match=f'{shard_of(copy)} is empty: 0 bytes'):
        records.read_dataset_info(copy)


def test_truncated_shard(copy):
    content = shard_of(copy).read_bytes()
    shard_of(copy).write_bytes(content[:-7])
    expected = f'cut short: {len(content) - 7} bytes, expected {len(content)}'
    with pytest.raises(DatasetError, match=f'{shard_of(copy)} is {expected}'):
        records.read_dataset_info(copy)


def test_damaged_shard(copy):
    content = bytearray(shard_of(copy).read_bytes())
    content[-100] ^= 255
    shard_of(copy).write_bytes(content)
    with pytest.raises(DatasetError, match=f'{shard_of(copy)} is damaged after 3 rec'):
        list(records.read_faces(copy, 'train'))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'version': 99}, 'version is 99; expected 1'),
        ({'format': 'other'}, "format is 'other'; expected"),
        ({'image_size': [128, 128]}, r'image_size is \[128, 128\]'),
        ({'colour_order': 'BGR'}, 'BGR'),
        ({'image_size': None}, 'image_size is None'),
        ({'splits': {'train': {}}}, 'damaged'),
        ({'encoding': 7}, 'encoding is 7; expected png or jpeg'),
    ],
)
def test_wrong_schema(copy, changes, message):
    edit_sidecar(copy, **changes)
    with pytest.raises(DatasetError, match=message) as caught:
        records.read_dataset_info(copy)
    assert records.SIDECAR in str(caught.value)


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        (('train', 'shards', 1, 'bytes'), '¢', 'the size of a shard is not a number'),
        (('train', 'shards', 1, 'examples'), -4, 'the size of a shard is not a number'),
        (('train', 'shards'), [], 'a split has no faces'),
        (('train', 'identities'), 'abc', 'identities are not names'),
        (('train', 'identities', 1), None, 'identities are not names'),
        (('test', 'shards', 0, 'file'), 'x' * 300, 'x is missing'),
        (('test', 'shards', 0, 'file'), 'x\0', 'is missing'),
        (('test', 'shards', 0, 'file'), '..', 'is missing'),
    ],
)
def test_values_of_no_sense(copy, path, value, message):
    """Found by benchmarks/drills/fuzz.py, or beside what it found."""
    splits = json.loads((copy / records.SIDECAR).read_text())['splits']
    *above, last = path
    functools.reduce(lambda tree, key: tree[key], above, splits)[last] = value
    edit_sidecar(copy, splits=splits)
    with pytest.raises(DatasetError, match=message):
        records.read_dataset_info(copy)


def test_a_sidecar_that_is_nested_too_deep(copy):
    (copy / records.SIDECAR).write_text('[' * 100_000)
    with pytest.raises(DatasetError, match=r'faces\.json is damaged'):
        records.read_dataset_info(copy)


def test_a_shard_with_less_faces_than_the_sidecar_says(copy):
    splits = json.loads((copy / records.SIDECAR).read_text())['splits']
    splits['train']['shards'][0]['examples'] = 5
    edit_sidecar(copy, splits=splits)
    with pytest.raises(
        DatasetError, match=r'has 4 records; expected 5, as faces\.json'
    ):
        records.read_keys(copy, 'train')


@pytest.mark.parametrize(
    'content', [b'no example', b'', {'name': b'\xff'}, {'key': None}]
)
def test_a_record_that_is_no_example(copy, content):
    """Its checksum is right."""
    tf = runtime.import_tensorflow()
    shard = copy / 'faces-train.tfrecord-00000-of-00003'
    with tf.io.TFRecordWriter(str(shard)) as writer:
        writer.write(content if isinstance(content, bytes) else example(**content))
    splits = json.loads((copy / records.SIDECAR).read_text())['splits']
    splits['train']['shards'][0] |= {'bytes': shard.stat().st_size, 'examples': 1}
    edit_sidecar(copy, splits=splits)
    with pytest.raises(DatasetError, match=f'{shard} is damaged after 0 records'):
        records.read_keys(copy, 'train')


def test_missing_metadata(copy, tmp_path):
    (copy / 'features.json').unlink()
    with pytest.raises(DatasetError, match=r'features\.json is missing'):
        records.read_dataset_info(copy)
    (copy / records.SIDECAR).write_text('{')
    with pytest.raises(DatasetError, match=r'faces\.json is damaged'):
        records.read_dataset_info(copy)
    (copy / records.SIDECAR).unlink()
    with pytest.raises(DatasetError, match=r'faces\.json is missing'):
        records.read_dataset_info(copy)
    with pytest.raises(DatasetError, match='is not a directory'):
        records.read_dataset_info(tmp_path / 'nowhere')


def test_missing_split_lists_what_there_is(dataset):
    with pytest.raises(DatasetError, match="no split 'validation'; it has test, train"):
        records.read_dataset_info(dataset).split('validation')


def test_ordered_map_keeps_order_and_raises():
    assert list(runtime.ordered_map(abs, range(-100, 0), workers=3)) == [
        *range(100, 0, -1)
    ]
    with pytest.raises(ZeroDivisionError):
        list(runtime.ordered_map(lambda x: 1 / x, range(-3, 3), workers=2))


def test_imports_are_light():
    """Neither TensorFlow nor JAX comes in before it is needed."""
    modules = ('records', 'pipeline', 'align', 'preparing.sources', 'prepare')
    program = (
        ''.join(f'import sicnn_jax.data.{module}\n' for module in modules)
        + "import sys\nprint({'tensorflow', 'jax'} & set(sys.modules))"
    )
    printed = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == 'set()'


def test_tensorflow_sees_no_accelerator():
    tf = runtime.import_tensorflow()
    assert {device.device_type for device in tf.config.get_visible_devices()} == {'CPU'}
