"""One walk of folders: what is a picture, and what is counted instead."""

import io
import mimetypes
import os
import socket
import sys

import numpy as np
import pytest
from PIL import Image, features

from sicnn_jax.data import folders, image_files, records
from sicnn_jax.data.preparing import convert


def encoded(kind='png', **options):
    buffer = io.BytesIO()
    Image.new('RGB', (16, 16), 'red').save(buffer, kind, **options)
    return buffer.getvalue()


def walk(directory, **options):
    passed_over = folders.PassedOver()
    return [*folders.walk(directory, passed_over, **options)], passed_over


def write(directory, *names, content=b''):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)


def test_names_decide_on_every_machine(tmp_path, monkeypatch):
    """Whatever table of MIME types there is, and in any case."""
    monkeypatch.setattr(mimetypes, 'knownfiles', [])
    monkeypatch.setattr(mimetypes, '_db', None)
    names = [f'a{suffix}' for suffix in folders.SUFFIXES]
    names += ['b.JFIF', 'c.Avif', 'd?x#y.HEIC']
    write(tmp_path, *names, 'e.svg', 'e.heic.txt', 'f.PDF', f'g.{"x" * 40}')
    found, passed_over = walk(tmp_path)
    assert found == sorted(names)
    assert passed_over.counts == {
        'named .svg': 1,
        'named .txt': 1,
        'named .pdf': 1,
        'named otherwise': 1,
    }


def test_contents_decide_where_names_say_nothing(tmp_path, monkeypatch):
    opened = []
    real = image_files.is_image
    monkeypatch.setattr(
        image_files, 'is_image', lambda path: opened.append(path) or real(path)
    )
    write(tmp_path, 'photo', 'face.12', 'a.png', 'notes.md', content=encoded('jpeg'))
    write(tmp_path, 'tiff', content=encoded('tiff'))
    write(tmp_path, 'heic', content=b'\0\0\0\x18ftypheic')
    write(tmp_path, 'empty', 'README', content=b'')
    write(tmp_path, 'Makefile', content=b'BM is how this begins, and P6, too: ' * 3)
    write(tmp_path, 'script', content=b'P6 12 of 30')
    found, passed_over = walk(tmp_path)
    assert found == ['a.png', 'face.12', 'heic', 'photo', 'tiff']
    assert passed_over.counts == {
        'without a suffix and no picture': 4,
        'named .md': 1,
    }
    # What has a name of its own is not opened: there may be a million.
    assert not {'a.png', 'notes.md'} & {os.path.basename(path) for path in opened}


def test_what_systems_leave_is_passed_over(tmp_path):
    write(tmp_path, 'a/1.png', 'a/._1.png', 'a/.DS_Store', 'a/Thumbs.db')
    write(tmp_path, '.git/x.png', 'a/@eaDir/1.png/small.jpg', '__MACOSX/a/1.png')
    found, passed_over = walk(tmp_path)
    assert found == ['a/1.png']
    assert passed_over.counts == {'hidden': 5, 'named .db': 1}
    assert passed_over.examples['hidden'][0] == '.git'
    # The folder itself is what was asked for.
    assert walk(tmp_path / '.git')[0] == ['x.png']


def test_the_order_is_one(tmp_path):
    write(tmp_path, 'b/1.png', 'b.png', 'a/c/1.png', 'a/2.png', 'a-/1.png')
    assert walk(tmp_path)[0] == [
        *('b.png', 'a/2.png', 'a/c/1.png', 'a-/1.png', 'b/1.png')
    ]


def test_links_are_followed_but_not_in_circles(tmp_path):
    write(tmp_path, 'photos/a/1.png', 'elsewhere/2.png')
    photos = tmp_path / 'photos'
    (photos / 'b').symlink_to(tmp_path / 'elsewhere')
    (photos / 'a' / 'up').symlink_to(photos)
    (tmp_path / 'elsewhere' / 'other').symlink_to(photos / 'a')
    (photos / 'a' / 'self').symlink_to('self')
    (photos / 'a' / 'gone.png').symlink_to('nowhere.png')
    found, passed_over = walk(photos)
    # What leads nowhere is read, and named as what cannot be.
    assert found == [
        *('a/1.png', 'a/gone.png', 'b/2.png', 'b/other/1.png', 'b/other/gone.png')
    ]
    assert passed_over.counts['links in a circle'] == 2
    with pytest.raises(records.DatasetError, match=r'gone\.png cannot be read'):
        image_files.load_image(str(photos / 'a' / 'gone.png'))


def test_pipes_are_not_opened(tmp_path):
    """Nor links to them: reading would wait for ever."""
    os.mkfifo(tmp_path / 'a.png')
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'b.png').symlink_to('a.png')
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / 'c.png'))
        assert walk(tmp_path)[0] == []
        assert walk(tmp_path)[1].counts == {'pipes or devices': 4}


def test_folders_that_cannot_be_listed_are_counted(tmp_path, monkeypatch):
    write(tmp_path, 'a/1.png', 'closed/1.png', 'z/1.png')
    real = os.scandir

    def scandir(path):
        if 'closed' in os.fspath(path):
            raise PermissionError(13, 'Permission denied', path)
        return real(path)

    monkeypatch.setattr(os, 'scandir', scandir)
    found, passed_over = walk(tmp_path)
    assert found == ['a/1.png', 'z/1.png']
    assert passed_over.report() == {
        'passed_over': {'folders that cannot be listed': 1},
        'passed_over_examples': {'folders that cannot be listed': ['closed']},
    }


def test_files_that_may_not_be_opened_are_named_when_they_are_read(
    tmp_path, monkeypatch
):
    write(tmp_path, 'photo')

    def refuse(file, **options):
        raise PermissionError(13, 'Permission denied', file)

    monkeypatch.setattr(image_files.Image, 'open', refuse)
    assert walk(tmp_path)[0] == ['photo']


def test_left_out_by_the_caller(tmp_path):
    write(tmp_path, 'a.png', 'b.png', 'out/c.png')
    (tmp_path / 'link.png').symlink_to('b.png')
    skip = {os.path.realpath(tmp_path / name): 'results' for name in ('b.png', 'out')}
    found, passed_over = walk(tmp_path, skip=skip)
    assert found == ['a.png']
    assert passed_over.examples == {'results': ['b.png', 'link.png', 'out']}


def test_in_words():
    counts = {f'named .{letter}': 1 for letter in 'abcdefghij'} | {'hidden': 1200}
    text = folders.in_words(counts)
    assert text.startswith('; passed over: 1,200 hidden, 1 named .a, 1 named .b')
    assert text.endswith('3 for other reasons')
    assert folders.in_words({}) == ''
    passed_over = folders.PassedOver()
    for number in range(100):
        passed_over.add(os.fsdecode(b'caf\xe9'), f'named .{number % 2}')
    assert str(passed_over) == '; passed over: 50 named .0, 50 named .1'
    assert passed_over.examples['named .0'] == ['caf\\xe9'] * 20


def test_a_picture_of_another_suffix(tmp_path):
    write(tmp_path, 'a.PNG', 'b.jpg', 'b.png', 'c.2.webp', 'd')
    for name, expected in (
        ('a.jpg', 'a.PNG'),
        ('b.png', 'b.png'),
        ('b.gif', 'b.jpg'),
        ('c.2.jpg', 'c.2.webp'),
        ('c.2', 'c.2.webp'),
        ('d', 'd'),
        ('e.jpg', None),
        ('nowhere/a.jpg', None),
    ):
        found = folders.beside(tmp_path / name)
        assert found == (expected and str(tmp_path / expected))


@pytest.mark.skipif(
    'avif' not in features.modules or not features.check('avif'),
    reason='this Pillow reads no AVIF',
)
def test_avif(tmp_path):
    write(tmp_path, 'a.jpg', content=encoded('avif'))
    loaded = image_files.load_image(str(tmp_path / 'a.jpg'))
    assert np.abs(loaded[0, 0].astype(int) - [255, 0, 0]).max() < 12


def test_a_pillow_without_avif(monkeypatch):
    monkeypatch.setattr(features, 'modules', {})
    with pytest.raises(
        image_files.MissingDecoderError, match=r'x\.avif .*pillow>=11\.3'
    ):
        image_files.load_image(b'\0\0\0\x1cftypavif' + bytes(20), 'x.avif')


def test_heic(tmp_path):
    pillow_heif = pytest.importorskip('pillow_heif')
    pillow_heif.register_heif_opener()
    write(tmp_path, 'IMG_1.HEIC', content=encoded('heif', quality=95))
    # As if nobody had asked for it.
    image_files.Image.OPEN.pop('HEIF')
    loaded = image_files.load_image(str(tmp_path / 'IMG_1.HEIC'))
    assert np.abs(loaded[0, 0].astype(int) - [255, 0, 0]).max() < 12


def test_heic_without_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pillow_heif', None)
    with pytest.raises(
        image_files.MissingDecoderError,
        match=r"a\.heic cannot be read as an image: HEIC, .* 'sicnn_jax\[heic\]'",
    ):
        image_files.load_image(b'\0\0\0\x18ftypheic' + bytes(20), 'a.heic')
    photograph = convert.Photograph('a.heic', b'\0\0\0\x18ftypheic' + bytes(20))
    (reason,) = convert.Convert()([photograph])
    # As the last lines of `prepare` have it, and as its report.
    advice, _, details = reason.partition(': ')
    assert advice == "HEIC, which needs pip install 'sicnn_jax[heic]'"
    assert details.startswith('a.heic cannot')


def test_damaged_heic():
    pytest.importorskip('pillow_heif')
    with pytest.raises(records.DatasetError, match='begins as HEIF, but the rest is'):
        image_files.load_image(b'\0\0\0\x18ftypheic' + bytes(20), 'a.heic')
