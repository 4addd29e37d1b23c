import builtins
import io
import pickle

import numpy as np
import pytest
from PIL import Image

from sicnn_jax.data import decoding, image_files, records, runtime
from sicnn_jax.data.preparing import sources
from sicnn_jax.data.records import DatasetError, Face
from tests.data.test_recordio import insightface_set
from tests.writing import write_set


def encoded(colour, encoding='png', size=(112, 112)):
    buffer = io.BytesIO()
    Image.new('RGB', size, colour).save(buffer, encoding)
    return buffer.getvalue()


def colours(source):
    """The colour of each image of a source, read in two parts."""
    count = len(source.keys)
    contents = [*source.read(0, 1), *source.read(1, count)]
    return [
        tuple(image_files.load_image(content)[0, 0].tolist()) for content in contents
    ]


def test_folder_source_is_sorted_and_goes_deep(tmp_path):
    for name in ('b/1.JPG', 'a/video/2.pgm', 'a/1.png', 'a/.hidden.png', '.c/1.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    (tmp_path / 'a' / 'notes.txt').write_text('not an image')
    source = sources.open_source(tmp_path)
    assert source.keys == ['a/1.png', 'a/video/2.pgm', 'b/1.JPG']
    assert source.identities == ['a', 'a', 'b']
    assert source.read(1, 3) == [str(tmp_path / key) for key in source.keys[1:]]
    assert source.passed_over.counts == {'hidden': 2, 'named .txt': 1}


def folder_of(directory, *names):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(b'')
    return sources.open_source(directory)


def test_pictures_beside_the_folders_of_people_are_counted(tmp_path):
    source = folder_of(tmp_path, '1.png', '2.jfif', 'a/1.jpe')
    assert source.keys == ['a/1.jpe']
    assert source.passed_over.examples == {
        'beside the folders of people': ['1.png', '2.jfif']
    }
    (tmp_path / 'a' / '1.jpe').unlink()
    with pytest.raises(DatasetError, match='passed over: 2 beside the folders of peop'):
        sources.open_source(tmp_path)


@pytest.mark.parametrize(
    ('folders', 'expected'),
    [
        ('train val', {'train': 'train', 'val': 'test'}),
        ('train val test', {'train': 'train', 'val': 'val', 'test': 'test'}),
        ('Training Testing', {'Training': 'train', 'Testing': 'test'}),
    ],
)
def test_folders_of_splits_are_splits(tmp_path, folders, expected):
    names = folders.split()
    source = folder_of(tmp_path, *(f'{name}/of_{name}/1.png' for name in names))
    assert source.keys == sorted(f'{name}/of_{name}/1.png' for name in names)
    assert dict(zip(source.identities, source.splits, strict=True)) == {
        f'of_{name}': split for name, split in expected.items()
    }


@pytest.mark.parametrize('other', ['train/1.png', 'Ann/video/1.png'])
def test_people_may_be_called_as_splits_are(tmp_path, other):
    source = folder_of(tmp_path, 'train/video/1.png', 'val/video/1.png', other)
    assert source.splits is None
    assert source.identities == [key.partition('/')[0] for key in source.keys]


def test_nobody_is_in_two_splits(tmp_path):
    with pytest.raises(
        DatasetError, match=f'has b in train and in val.*--source={tmp_path}/train'
    ):
        folder_of(tmp_path, 'train/a/1.png', 'train/b/1.png', 'val/b/2.png')


def load(tmp_path, image, name='image.png', **options):
    image.save(tmp_path / name, **options)
    loaded = image_files.load_image(tmp_path / name)
    assert loaded.dtype == np.uint8
    assert loaded.ndim == 3
    return loaded


def test_load_kinds_of_images(tmp_path):
    grey = load(tmp_path, Image.new('L', (5, 4), 77), 'grey.pgm')
    np.testing.assert_array_equal(grey, np.full((4, 5, 3), 77))
    deep = Image.fromarray(np.full((4, 5), 256 * 100 + 100, np.uint16))
    # Old releases of Pillow make a PGM of 32 bits only; it has 16, too.
    for name, image in (
        ('deep.png', deep),
        ('deep.tif', deep),
        ('deep.pgm', deep.convert('I')),
    ):
        np.testing.assert_array_equal(load(tmp_path, image, name), grey * 0 + 100)
    palette = Image.new('RGB', (5, 4), (10, 200, 30)).convert('P', palette=1)
    assert np.abs(load(tmp_path, palette)[0, 0].astype(int) - [10, 200, 30]).max() < 26
    cmyk = Image.new('RGB', (5, 4), (255, 0, 0)).convert('CMYK')
    red = load(tmp_path, cmyk, 'cmyk.jpg', quality=95)
    assert np.abs(red.astype(int) - [255, 0, 0]).max() < 10
    bits = load(tmp_path, Image.new('1', (5, 4), 1))
    np.testing.assert_array_equal(bits, np.full((4, 5, 3), 255))


def test_transparency_becomes_white(tmp_path):
    image = Image.new('RGBA', (5, 4), (200, 0, 0, 255))
    image.putpixel((1, 2), (0, 0, 0, 0))
    loaded = load(tmp_path, image)
    assert tuple(loaded[2, 1]) == (255, 255, 255)
    assert tuple(loaded[0, 0]) == (200, 0, 0)


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new('RGB', (40, 20), 'black')
    image.paste('white', (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # Turned by a quarter clockwise to be upright.
    loaded = load(tmp_path, image, 'turned.jpg', exif=exif, quality=95)
    assert loaded.shape == (40, 20, 3)
    assert loaded[:18].min() > 200
    assert loaded[-18:].max() < 50


def test_unreadable_images_are_named(tmp_path):
    Image.effect_noise((64, 64), 50).save(tmp_path / 'cut.jpg')
    content = (tmp_path / 'cut.jpg').read_bytes()
    (tmp_path / 'cut.jpg').write_bytes(content[: len(content) // 2])
    (tmp_path / 'text.png').write_text('no')
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / 'float.tif')
    for name in ('cut.jpg', 'text.png', 'float.tif', 'missing.jpg'):
        with pytest.raises(DatasetError, match=f'{name} cannot be read as an image'):
            image_files.load_image(tmp_path / name)


@pytest.fixture
def photographs(tmp_path):
    for name, colour in (('a', 'red'), ('b', 'blue')):
        (tmp_path / f'{name}.png').write_bytes(encoded(colour))
    return tmp_path


RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig'])
def test_csv_list(photographs, encoding):
    path = photographs / 'people.csv'
    absolute = photographs / 'b.png'
    path.write_text(f'identity,path\nA,a.png\n"B, C",{absolute}\n', encoding)
    source = sources.open_source(path)
    assert source.name == 'people'
    assert list(source.keys) == ['a.png', str(absolute)]
    assert list(source.identities) == ['A', 'B, C']
    assert colours(source) == [RED, BLUE]


@pytest.mark.parametrize(
    'key', ['../secret.png', 'a/../../secret.png', '/etc/passwd', '../photos_2/x.png']
)
def test_a_list_reads_nothing_outside_of_its_root(photographs, key):
    path = photographs / 'people.csv'
    path.write_text(f'path,identity\na.png,A\n{key},B\n')
    with pytest.raises(
        DatasetError, match=f'image 2: {key} is not below {photographs};'
    ):
        sources.open_source(path)


def test_a_list_may_be_elsewhere(photographs, tmp_path_factory):
    path = tmp_path_factory.mktemp('lists') / 'people.csv'
    path.write_text(f'path,identity\na.png,A\n{photographs / "b.png"},B\n')
    source = sources.open_source(path, root=photographs)
    assert colours(source) == [RED, BLUE]


def test_parquet_list(photographs):
    pa = pytest.importorskip('pyarrow')
    import pyarrow.parquet as pq

    path = photographs / 'people.parquet'
    columns = {'path': ['a.png', 'b.png'], 'identity': [7, 12], 'age': [1.0, 2.0]}
    pq.write_table(pa.table(columns), path)
    source = sources.open_source(path)
    assert list(source.identities) == ['7', '12']
    assert colours(source) == [RED, BLUE]
    pq.write_table(pa.table({'file': ['a']}), path)
    with pytest.raises(DatasetError, match="no column 'path'; it has file"):
        sources.open_source(path)
    path.write_bytes(b'PAR1')
    with pytest.raises(DatasetError, match='cannot be read as a list'):
        sources.open_source(path)


def test_parquet_without_pyarrow(photographs, monkeypatch):
    (photographs / 'people.parquet').write_bytes(b'')
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith('pyarrow'):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(DatasetError, match=r"pip install 'sicnn_jax\[parquet\]'"):
        sources.open_source(photographs / 'people.parquet')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', "no column 'path'"),
        ('path,identity\n', 'is empty'),
        ('path,name\na.png,A\n', "no column 'identity'; it has path, name"),
        ('path,identity\na.png,A\na.png,B\n', r'image 2: a\.png occurs a second'),
        ('path,identity\na.png\n', 'image 1: path or identity is missing'),
    ],
)
def test_wrong_lists(tmp_path, text, message):
    (tmp_path / 'people.csv').write_text(text)
    with pytest.raises(DatasetError, match=message):
        sources.open_source(tmp_path / 'people.csv')


def test_recordio_set(tmp_path):
    images = [encoded('red', 'jpeg'), encoded('blue'), encoded('red')]
    path = insightface_set(tmp_path, images, [0, 1, 1])
    for spec in (path, tmp_path):
        source = sources.open_source(spec)
        assert source.identities == ['0', '1', '1']
        assert colours(source)[1:] == [BLUE, RED]
        assert len(set(source.keys)) == 3
        assert source.name == tmp_path.name


def test_verification_set(tmp_path):
    path = tmp_path / 'lfw.bin'
    images = [encoded(colour) for colour in ('red', 'red', 'blue', 'red')]
    path.write_bytes(pickle.dumps((images, [True, False])))
    source = sources.open_source(path)
    assert source.identities == ['pair_000000'] * 2 + ['pair_000001_a', 'pair_000001_b']
    assert set(source.splits) == {'test'}
    assert colours(source) == [RED, RED, BLUE, RED]


def test_data_set_of_ours(tmp_path):
    def face(level, name):
        image = np.full((112, 96, 3), level, np.uint8)
        return Face(image, name, f'{name}/{level}.png')

    splits = {'train': [face(1, 'B'), face(2, 'A')], 'test': [face(3, 'C')]}
    write_set(tmp_path, splits, alignment={'method': 'x'})
    source = sources.open_source(tmp_path)
    assert source.keys == ['B/1.png', 'A/2.png', 'C/3.png']
    assert source.splits == ['train', 'train', 'test']
    assert source.labels == {'train': ('A', 'B'), 'test': ('C',)}
    assert source.alignment == {'method': 'x'}
    assert colours(source) == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    # Once more from the beginning, and past some.
    assert len(source.read(2, 3)) == 1
    assert colours(source)[0] == (1, 1, 1)


def write_tfds(directory, label_feature, splits, more=None):
    """A data set as TFDS has them on disk: the labels by split, an image each.

    `more` are features that hold integers, and theirs in every split.
    """
    more = more or {}
    tf = runtime.import_tensorflow()
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {'photo': tfds.features.Image(shape=(112, 112, 3)), 'label': label_feature}
        | {name: tfds.features.Scalar(np.int64) for name in more}
    )
    directory.mkdir(parents=True)
    template = tfds.core.ShardedFileTemplate(
        data_dir=directory, dataset_name='tiny_faces', filetype_suffix='tfrecord'
    )
    infos = []
    for split, labels in splits.items():
        path = directory / f'tiny_faces-{split}.tfrecord-00000-of-00001'
        with tf.io.TFRecordWriter(str(path)) as writer:
            for level, label in enumerate(labels):
                image = np.full((112, 112, 3), level, np.uint8)
                example = {'photo': image, 'label': label}
                example |= {name: values[level] for name, values in more.items()}
                example = features.encode_example(example)
                writer.write(features.serialize_example(example))
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[len(labels)],
                num_bytes=path.stat().st_size,
                filename_template=template,
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=directory, features=features, split_infos=infos, check_data=False
    )


def test_data_sets_of_tfds(tmp_path):
    """By name, and by their directory; classes, text and numbers as identities."""
    runtime.import_tensorflow()
    import tensorflow_datasets as tfds

    for config, feature, labels in (
        ('classes', tfds.features.ClassLabel(names=['Ann', 'Bob']), ['Ann', 'Bob']),
        ('text', tfds.features.Text(), ['Ann', 'Bob']),
        ('numbers', tfds.features.Scalar(np.int64), [3, 4]),
    ):
        directory = tmp_path / 'tiny_faces' / config / '1.0.0'
        write_tfds(directory, feature, {'train': [*labels, labels[0]], 'test': labels})
        named = sources.open_source(f'tfds:tiny_faces/{config}', data_dir=tmp_path)
        for source in (named, sources.open_source(directory)):
            names = [str(label) for label in labels]
            assert source.keys[0].endswith('/00000000')
            found = dict(zip(source.keys, source.identities, strict=True))
            assert found['train/00000002'] == found['test/00000000'] == names[0]
            assert found['test/00000001'] == names[1]
            levels = dict(zip(source.keys, colours(source), strict=True))
            assert {key: colour[0] for key, colour in levels.items()} == {
                key: int(key[-1]) for key in source.keys
            }
    with pytest.raises(DatasetError, match='cannot be opened by TensorFlow Datasets'):
        sources.open_source('tfds:no_such_faces', data_dir=tmp_path)


def test_the_feature_of_tfds_that_is_the_identity(tmp_path):
    runtime.import_tensorflow()
    import tensorflow_datasets as tfds

    smile = tfds.features.ClassLabel(names=['no', 'yes'])
    where = tmp_path / 'tiny_faces' / '1.0.0'
    write_tfds(where, smile, {'a': ['yes', 'yes']}, {'person_id': [7, 8]})
    source = sources.open_source(where)
    assert (source.identities, source.identity_feature) == (['7', '8'], 'person_id')
    source = sources.open_source(where, identity='label')
    assert (source.identities, source.identity_feature) == (['yes', 'yes'], 'label')
    with pytest.raises(DatasetError, match=r'features label, person_id, photo; .* who'):
        sources.open_source(where, identity='who')
    with pytest.raises(DatasetError, match=r"'photo' is not a label: .*label, person"):
        sources.open_source(where, identity='photo')
    with pytest.raises(DatasetError, match=r'a TFDS data set, but .* is not one'):
        sources.open_source(tmp_path, identity='label')


@pytest.mark.parametrize(
    ('shape', 'kind', 'value'), [((), np.float32, 0.3), ((1,), np.int64, [3])]
)
def test_what_is_no_label_of_tfds(tmp_path, shape, kind, value):
    runtime.import_tensorflow()
    import tensorflow_datasets as tfds

    feature = tfds.features.Tensor(shape=shape, dtype=kind)
    write_tfds(tmp_path / 'tiny_faces' / '1.0.0', feature, {'a': [value]})
    with pytest.raises(DatasetError, match=r"'label' is not a label: .*; expected one"):
        sources.open_source(tmp_path / 'tiny_faces' / '1.0.0')


def test_tfds_without_identities(tmp_path):
    tf = runtime.import_tensorflow()
    import tensorflow_datasets as tfds

    directory = tmp_path / 'tiny_faces' / '1.0.0'
    write_tfds(
        directory, tfds.features.Tensor(shape=(), dtype=tf.float32), {'a': [1.0]}
    )
    text = (directory / 'features.json').read_text().replace('"label"', '"smile"')
    (directory / 'features.json').write_text(text)
    with pytest.raises(DatasetError, match='features photo, smile; expected an '):
        sources.open_source(directory)


def test_other_sources_are_refused(tmp_path):
    (tmp_path / 'faces.zip').write_bytes(b'')
    for spec, problem in (
        (tmp_path / 'faces.zip', 'is not a source'),
        (tmp_path / 'missing.csv', 'does not exist'),
        (tmp_path, 'has no images in its folders'),
    ):
        with pytest.raises(DatasetError, match=f'{spec}.* {problem}') as caught:
            sources.open_source(spec)
        for choice in ('.csv', '.parquet', 'tfds:NAME', 'train.rec', '.bin'):
            assert choice in str(caught.value)


def test_names_that_are_not_utf8(tmp_path):
    folder = tmp_path / 'person'
    folder.mkdir()
    with open(bytes(folder) + b'/caf\xe9.png', 'wb') as file:
        file.write(encoded('red'))
    source = sources.open_source(tmp_path)
    assert source.keys == ['person/caf\\xe9.png']
    assert image_files.load_image(source.read(0, 1)[0]).shape == (112, 112, 3)


def test_bombs_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(records, 'MAX_PIXELS', 5000)
    monkeypatch.setattr(image_files.Image, 'MAX_IMAGE_PIXELS', 5000)
    assert image_files.load_image(encoded('red', size=(50, 100))).shape == (100, 50, 3)
    decoded = []
    monkeypatch.setattr(decoding, 'decode', decoded.append)
    # The second is refused by Pillow, which only warns of the first.
    for size, reason in (
        ((51, 100), '51×100 pixels'),
        ((1000, 1000), 'too many'),
    ):
        with pytest.raises(DatasetError, match=rf'x\.png cannot be read.*{reason}'):
            image_files.load_image(encoded('red', size=size), 'x.png')
    assert not decoded


@pytest.mark.parametrize(
    'content', [b'', b'\0' * 100, b'%!PS-Adobe-3.0 EPSF-3.0\nshowpage', b'<svg/>']
)
def test_what_is_no_image(content):
    with pytest.raises(DatasetError, match=r'x\.jpg .* it is none of BMP, GIF, JPEG'):
        image_files.load_image(content, 'x.jpg')


def test_mislabelled_images_are_read(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(encoded('red', 'webp'))
    assert image_files.load_image(str(tmp_path / 'a.jpg')).shape == (112, 112, 3)


def test_pictures_for_two_eyes(tmp_path):
    """MPO, which some cameras write and call JPEG: the first picture."""
    images = [Image.new('RGB', (16, 8), colour) for colour in ('red', 'blue')]
    images[0].save(tmp_path / 'a.mpo', save_all=True, append_images=images[1:])
    (tmp_path / 'a.mpo').rename(tmp_path / 'a.jpg')
    assert image_files.load_image(str(tmp_path / 'a.jpg'))[0, 0, 0] > 200
