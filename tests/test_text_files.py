"""Text that others wrote, and where this package reads or writes any."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import sicnn_jax
from sicnn_jax import text_files
from sicnn_jax.data import align
from sicnn_jax.data.preparing import overlap, sources
from sicnn_jax.evaluation import pairs

ENCODINGS = ('utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be', 'latin-1')
ENDS = ('\n', '\r\n', '\r')


@pytest.mark.parametrize('encoding', [*ENCODINGS, 'utf-32'])
@pytest.mark.parametrize('end', ENDS)
def test_text_is_read_whatever_wrote_it(tmp_path, encoding, end):
    path = tmp_path / 'a.txt'
    text = 'Beyoncé Knowles\n\nJosé 1\n'
    path.write_bytes(text.replace('\n', end).encode(encoding))
    assert text_files.read_text(path) == text


def test_marks_are_those_of_either_order(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_bytes(b'\xfe\xff' + 'é\r\n'.encode('utf-16-be'))
    assert text_files.read_text(path) == 'é\n'
    # Windows-1252, an end of file of DOS, and what a code page does not have.
    for data, text in ((b'\x80 5\r\n\x1a', '€ 5\n'), (b'\xe9\x81', 'é\x81'), (b'', '')):
        path.write_bytes(data)
        assert text_files.read_text(path) == text


def test_what_is_no_text_is_refused(tmp_path):
    path = tmp_path / 'a.txt'
    for data in (
        b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR',
        b'a\0b',
        b'\xff\xfe\x00',
        b'\x7fELF',
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError):
            text_files.read_text(path)
    with pytest.raises(sources.DatasetError, match='cannot be read as landmarks'):
        align.read_landmarks(path)
    with pytest.raises(ValueError, match='cannot be read as pairs'):
        pairs.read_pairs(path)


@pytest.mark.parametrize('encoding', ENCODINGS)
@pytest.mark.parametrize('end', ENDS)
def test_every_list_is_read_alike(tmp_path, encoding, end):
    def write(name, text):
        path = tmp_path / name
        path.write_bytes(text.replace('\n', end).encode(encoding))
        return path

    landmarks = align.read_landmarks(write('a.txt', 'é b.jpg 1 2 3 4 5 6 7 8 9 10\n'))
    np.testing.assert_array_equal(landmarks['é b.jpg'], np.r_[1:11].reshape(5, 2))
    assert overlap.read_names(write('b.txt', 'É B\nC\n')) == {'É B', 'C'}
    lfw = write('c.txt', '1\t1\nAé\t1\t2\nAé\t1\tB\t3\n')
    assert pairs.read_pairs(lfw).pairs[0].key_b == 'Aé/Aé_0002.jpg'
    ytf = write('d.txt', 'n, a, b, same\n1, Aé/1, B/2, 0\n2, A/1, A/3, 1\n')
    assert [pair.key_a for pair in pairs.read_pairs(ytf).pairs] == ['Aé/1', 'A/1']
    for delimiter in ',;\t':
        text = 'path_a,path_b,same\né.png,"b\u00a0c.png",1\n'
        found = pairs.read_pairs(write('e.csv', text.replace(',', delimiter)))
        assert found.pairs[0][:3] == ('é.png', 'b\u00a0c.png', True)
        text = 'identity|path\n"A, é; B"|é.png\nC|c.png\n'
        source = sources.open_source(write('f.csv', text.replace('|', delimiter)))
        assert list(source.identities) == ['A, é; B', 'C']
        assert source.keys[0] == 'é.png'


def test_every_place_says_the_encoding():
    """Where none is said, it is that of the machine."""
    root = pathlib.Path(sicnn_jax.__file__).parent
    unsaid = []
    for path in root.rglob('*.py'):
        code = path.read_text(encoding='utf-8')
        if not re.search(r'open\(|_text\(|TemporaryFile\(', code):
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Call) and _opens_text_somehow(node):
                unsaid.append(f'{path.relative_to(root)}:{node.lineno}')
    assert not unsaid


def _opens_text_somehow(call):
    name = getattr(call.func, 'attr', getattr(call.func, 'id', ''))
    if name not in ('open', 'read_text', 'write_text', 'fdopen', 'NamedTemporaryFile'):
        return False
    owner = getattr(getattr(call.func, 'value', None), 'id', '')
    if owner in ('Image', 'os', 'text_files'):
        return False
    if any(keyword.arg == 'encoding' for keyword in call.keywords):
        return False
    said = [each.value for each in call.args if isinstance(each, ast.Constant)]
    said += [k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)]
    words = [word for word in said if isinstance(word, str)]
    if name == 'open':
        return not any('b' in word for word in words)
    # `read_text('utf-8')`.
    return not words


def test_names_of_a_list_are_those_on_disk_in_any_locale(tmp_path):
    (tmp_path / 'Zoë').mkdir()
    Image.new('RGB', (4, 4), 'red').save(tmp_path / 'Zoë' / 'é.png')
    (tmp_path / 'a.csv').write_text('path,identity\nZoë/é.png,Zoë\n', 'utf-8')
    code = """if True:
        import sys
        from sicnn_jax.data import image_files
        from sicnn_jax.data.preparing import sources
        source = sources.open_source(sys.argv[1] + '/a.csv')
        image_files.load_image(source.read(0, 1)[0])
        folder = sources.open_source(sys.argv[1])
        print(ascii((source.keys, source.identities, folder.keys)))
    """
    locale = {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
    ran = subprocess.run(
        [sys.executable, '-c', code, tmp_path],
        env=os.environ | locale,
        capture_output=True,
        text=True,
    )
    expected = ascii((('Zoë/é.png',), ('Zoë',), ['Zoë/é.png']))
    assert (ran.stdout.strip(), ran.stderr) == (expected, '')


@pytest.mark.parametrize('encoding', ['ascii', 'cp1252'])
def test_what_an_output_cannot_show_is_no_error(encoding):
    code = "from sicnn_jax import command; command.run(print, 'λ → 1'); print('done')"
    ran = subprocess.run(
        [sys.executable, '-c', code],
        env=os.environ | {'PYTHONIOENCODING': encoding, 'PYTHONUTF8': '0'},
        capture_output=True,
        text=True,
    )
    assert (ran.stdout, ran.stderr) == ('\\u03bb \\u2192 1\ndone\n', '')
