import json

import numpy as np
import pytest
from PIL import Image

from sicnn_jax.data import align, prepare, records, sources
from sicnn_jax.data.records import DatasetError


def colour_image(colour, size=(120, 140)):
    return Image.new('RGB', size, colour)


@pytest.fixture
def source(tmp_path):
    """Six identities of two to four images; some files are not as they should be."""
    directory = tmp_path / 'photographs'
    for i in range(6):
        folder = directory / f'person_{i}'
        folder.mkdir(parents=True)
        for j in range(2 + i % 3):
            colour_image((40 * i, 60 * j, 99)).save(folder / f'{j}.png')
    (directory / 'person_0' / 'notes.txt').write_text('not an image')
    (directory / 'stray.png').write_bytes(b'')
    return directory


def run(source, out, *arguments):
    return prepare.main([f'--source={source}', f'--out={out}', *arguments])


def colours(directory, split):
    """The colour of each face by its key."""
    return {
        face.key: tuple(int(c) for c in records.decode_image(face.image)[50, 50])
        for face in records.read_faces(directory, split)
    }


def test_folder_to_data_set(source, tmp_path, capsys):
    out = tmp_path / 'out'
    assert run(source, out, '--test_identities=2') == 0
    info = records.read_dataset_info(out)
    train, test = info.split('train'), info.split('test')
    assert train.num_examples + test.num_examples == 18
    assert (train.num_identities, test.num_identities) == (4, 2)
    assert not set(train.identity_names) & set(test.identity_names)
    assert info.alignment == {'method': 'center_crop'}
    everything = {**colours(out, 'train'), **colours(out, 'test')}
    assert everything == {
        f'person_{i}/{j}.png': (40 * i, 60 * j, 99)
        for i in range(6)
        for j in range(2 + i % 3)
    }
    keys = records.read_keys(out, 'train')
    assert keys != sorted(keys)
    assert records.read_keys(out, 'test') == sorted(records.read_keys(out, 'test'))
    assert {face.source for face in records.read_faces(out, 'test')} == {'photographs'}
    report = json.loads((out / 'report.json').read_text())
    assert report['images'] == 18
    assert report['splits']['test'] == {'identities': 2, 'images': test.num_examples}
    assert report['skipped'] == []
    assert f'{out} written' in capsys.readouterr().out


def test_seed_fixes_choice_and_order(source, tmp_path):
    def names_and_keys(seed, name):
        prepare.prepare(source, tmp_path / name, test_identities=0.34, seed=seed)
        info = records.read_dataset_info(tmp_path / name)
        return info.split('test').identity_names, records.read_keys(
            tmp_path / name, 'train'
        )

    first = names_and_keys(1, 'a')
    assert len(first[0]) == 2
    assert names_and_keys(1, 'b') == first
    assert names_and_keys(2, 'c') != first


def test_test_list_and_rare_identities(source, tmp_path):
    names = tmp_path / 'names.txt'
    names.write_text('person_0\n\nperson_4\n')
    out = tmp_path / 'out'
    report = prepare.prepare(source, out, test_list=names, min_images=3)
    info = records.read_dataset_info(out)
    # person_0 and person_3 have two images; the list is not asked how many.
    assert info.split('test').identity_names == ('person_0', 'person_4')
    assert info.split('train').identity_names == ('person_1', 'person_2', 'person_5')
    assert report['skipped'] == [
        {'file': f'person_3/{j}.png', 'reason': 'identity has too few images: 2 of 3'}
        for j in range(2)
    ]


def test_only_test_identities(source, tmp_path):
    names = tmp_path / 'names.txt'
    names.write_text('\n'.join(f'person_{i}' for i in range(6)))
    prepare.prepare(source, tmp_path / 'out', test_list=names)
    assert set(records.read_dataset_info(tmp_path / 'out').splits) == {'test'}


def test_broken_and_small_files_are_skipped_and_reported(source, tmp_path):
    whole = (source / 'person_1' / '0.png').read_bytes()
    (source / 'person_1' / 'cut.png').write_bytes(whole[: len(whole) // 2])
    (source / 'person_1' / 'empty.jpg').write_bytes(b'')
    (source / 'person_1' / 'text.bmp').write_text('hello')
    colour_image('red', (30, 90)).save(source / 'person_1' / 'small.webp')
    # Three images, of which one can be used.
    (source / 'person_0' / '0.png').write_bytes(b'')
    (source / 'person_0' / '2.png').write_bytes(b'')
    out = tmp_path / 'out'
    report = prepare.prepare(source, out, min_images=2, min_size=40)
    reasons = {entry['file']: entry['reason'] for entry in report['skipped']}
    assert report['skipped_by_reason'] == {
        'unreadable': 5,
        'too small': 1,
        'identity has too few images': 1,
    }
    for name in ('cut.png', 'empty.jpg', 'text.bmp'):
        assert reasons[f'person_1/{name}'].startswith('unreadable: ')
        assert name in reasons[f'person_1/{name}']
    assert reasons['person_1/small.webp'] == 'too small: 90×30 (height×width)'
    assert reasons['person_0/1.png'] == 'identity has too few images: 1 of 2'
    assert json.loads((out / 'report.json').read_text()) == report
    assert len(colours(out, 'train')) == 16
    assert (
        'person_0' not in records.read_dataset_info(out).split('train').identity_names
    )


def test_landmarks_align(source, tmp_path):
    """White discs where the landmarks are come to lie on the template."""
    angle, scale = 0.3, 1.7
    linear = scale * np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    points = np.array(align.TEMPLATE) @ linear.T + [70, 20]
    image = np.zeros((300, 320, 3), np.uint8)
    y, x = np.mgrid[:300, :320]
    for px, py in points:
        image[(x - px) ** 2 + (y - py) ** 2 < 5**2] = 255
    Image.fromarray(image).save(source / 'person_2' / '0.png')
    landmarks = tmp_path / 'landmarks.txt'
    numbers = '\t'.join(f'{v:.3f}' for v in points.ravel())
    landmarks.write_text(f'person_2/0.png\t{numbers}\nperson_2/1.png{" 1" * 10}\n')
    out = tmp_path / 'out'
    report = prepare.prepare(source, out, landmarks=landmarks, encoding='jpeg')
    (face,) = records.read_faces(out, 'train')
    assert face.key == 'person_2/0.png'
    for px, py in align.TEMPLATE:
        assert records.decode_image(face.image)[round(py), round(px)].min() > 220
    info = records.read_dataset_info(out)
    assert info.encoding == 'jpeg'
    assert info.alignment['method'] == 'similarity'
    assert info.alignment['template'] == [list(point) for point in align.TEMPLATE]
    assert report['skipped_by_reason'] == {
        'no landmarks': 16,
        'impossible landmarks': 1,
    }


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--source=/nowhere'], '/nowhere is not a directory'),
        (['--landmarks=/nowhere.txt'], r'/nowhere.txt cannot be read'),
        (['--test_list=/nowhere.txt'], r'/nowhere.txt cannot be read'),
        (['--test_identities=6'], 'leaves no identity for training: there are 6'),
        (['--min_size=999'], 'None of the images of'),
    ],
)
def test_failures_exit_with_2_and_a_message(
    source, tmp_path, capsys, arguments, message
):
    out = tmp_path / 'out'
    assert run(source, out, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_wrong_flags_exit_with_2(source, tmp_path, capsys):
    for flag in ('--test_identities=1.5', '--test_identities=-1', '--encoding=gif'):
        with pytest.raises(SystemExit) as caught:
            run(source, tmp_path / 'out', flag)
        assert caught.value.code == 2
    assert '1.5' in capsys.readouterr().err


def test_source_without_images(tmp_path, capsys):
    (tmp_path / 'source').mkdir()
    assert run(tmp_path / 'source', tmp_path / 'out') == 2
    assert 'one folder an identity' in capsys.readouterr().err


def test_unknown_names_and_foreign_landmarks(source, tmp_path):
    names = tmp_path / 'names.txt'
    names.write_text('person_0\nsomebody\n')
    with pytest.raises(DatasetError, match="'somebody'"):
        prepare.prepare(source, tmp_path / 'out', test_list=names)
    names.write_text(f'photographs/person_0/0.png{" 1" * 10}')
    with pytest.raises(DatasetError, match='Paths must be relative to the source'):
        prepare.prepare(source, tmp_path / 'out', landmarks=names)


def test_overwriting_is_asked_for(source, tmp_path, capsys):
    out = tmp_path / 'out'
    assert run(source, out) == 0
    assert run(source, out) == 2
    assert 'not empty' in capsys.readouterr().err
    assert run(source, out, '--overwrite', '--encoding=jpeg') == 0
    assert records.read_dataset_info(out).encoding == 'jpeg'
    assert run(source, source / 'stray.png') == 2


def test_help(capsys):
    with pytest.raises(SystemExit):
        prepare.main(['--help'])
    printed = capsys.readouterr().out
    assert 'python -m sicnn_jax.data.prepare --source' in printed
    assert '--test_list FILE' in printed


def test_folder_source_is_sorted_and_goes_deep(tmp_path):
    for name in ('b/1.JPG', 'a/video/2.pgm', 'a/1.png', 'a/.hidden.png', '.c/1.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    assert sources.folder_source(tmp_path) == [
        ('a/1.png', 'a'),
        ('a/video/2.pgm', 'a'),
        ('b/1.JPG', 'b'),
    ]


def load(tmp_path, image, name='image.png', **options):
    image.save(tmp_path / name, **options)
    loaded = sources.load_image(tmp_path / name)
    assert loaded.dtype == np.uint8
    assert loaded.ndim == 3
    return loaded


def test_load_kinds_of_images(tmp_path):
    grey = load(tmp_path, Image.new('L', (5, 4), 77), 'grey.pgm')
    np.testing.assert_array_equal(grey, np.full((4, 5, 3), 77))
    deep = Image.fromarray(np.full((4, 5), 256 * 100 + 100, np.uint16))
    for name in ('deep.png', 'deep.tif', 'deep.pgm'):
        np.testing.assert_array_equal(load(tmp_path, deep, name), grey * 0 + 100)
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
            sources.load_image(tmp_path / name)
