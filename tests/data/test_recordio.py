import os
import pickle
import struct

import numpy as np
import pytest

from sicnn_jax.data import recordio
from sicnn_jax.data.records import DatasetError

MAGIC = struct.pack('<I', 0xCED7230A)


def pack(label, content, number=0):
    """A record's bytes as MXNet's `recordio.pack` makes them."""
    if isinstance(label, (int, float)):
        return struct.pack('<IfQQ', 0, label, number, 0) + content
    values = np.array(label, '<f4')
    return struct.pack('<IfQQ', len(values), 0, number, 0) + values.tobytes() + content


def framed(data):
    """Cut where the magic number occurs at a multiple of four, as dmlc does."""
    places = [i for i in range(0, len(data) - 3, 4) if data[i : i + 4] == MAGIC]
    starts = [0, *(i + 4 for i in places)]
    parts = [data[a:b] for a, b in zip(starts, [*places, len(data)], strict=True)]
    flags = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b''.join(
        MAGIC + struct.pack('<I', flag << 29 | len(part)) + part + bytes(-len(part) % 4)
        for flag, part in zip(flags, parts, strict=True)
    )


def write_rec(directory, records, identities=2):
    """`train.rec`, `train.idx` and `property` of (number, packed record)s."""
    content, index = b'', ''
    for number, data in records:
        index += f'{number}\t{len(content)}\n'
        content += framed(data)
    (directory / 'train.rec').write_bytes(content)
    (directory / 'train.idx').write_text(index)
    (directory / 'property').write_text(f'{identities},112,112')
    return directory / 'train.rec'


def insightface_set(directory, images, labels):
    """Record 0, images from 1 on, then a record of the range of each identity."""
    count = len(set(labels))
    first = len(images) + 1
    records = [(0, pack([first, first + count], b''))]
    records += [
        # Both ways to say a label occur.
        (i + 1, pack(label if i % 2 else [label, 0], image, i + 1))
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    records += [(first + i, pack([1, 2], b'')) for i in range(count)]
    return write_rec(directory, records, count)


def test_images_and_labels(tmp_path):
    images = [b'one', b'', b'three!', MAGIC + b'four' + MAGIC * 2 + b'x']
    path = insightface_set(tmp_path, images, [0, 0, 1, 1])
    parts, labels = recordio.read_index(path)
    assert [part.read() for part in parts] == images
    assert labels == [0, 0, 1, 1]


def test_sets_without_record_0(tmp_path):
    """As MXNet's im2rec writes them; `property` may be missing, too."""
    path = write_rec(tmp_path, [(7, pack(3, b'a')), (9, pack(5, b'b'))])
    (tmp_path / 'property').unlink()
    parts, labels = recordio.read_index(path)
    assert labels == [3, 5]
    assert [part.read() for part in parts] == [b'a', b'b']


@pytest.mark.parametrize(
    ('file', 'content', 'message'),
    [
        ('train.idx', '', r'train\.idx is empty'),
        ('train.idx', '0\t0\nx', r"train\.idx, line 2: expected the number.*'x'"),
        ('train.idx', '0\t4\n', r'train\.rec has no record at 4'),
        ('train.rec', b'', r'train\.rec is cut short'),
        ('property', 'many', "expected `identities,height,width`; found 'many'"),
        ('property', '1,112,112', r'record 2: the label is 1\.0; .* below 1'),
        # Found by benchmarks/drills/fuzz.py.
        ('train.idx', '0\t0\n9\t18446744073709551615', 'line 2: no record begins at 1'),
        ('train.idx', f'0\t0\n9\t{2**63 - 1}', 'line 2: no record begins at 9'),
        ('train.idx', '0\t0\n1\t-8', 'line 2: no record begins at -8'),
        ('train.idx', '0\t0\n1\t40\n1\t76', 'line 3: record 1 occurs a second time'),
    ],
)
def test_damaged_sets(tmp_path, file, content, message):
    path = insightface_set(tmp_path, [b'a', b'b'], [0, 1])
    write = 'write_bytes' if isinstance(content, bytes) else 'write_text'
    getattr(tmp_path / file, write)(content)
    with pytest.raises(DatasetError, match=message):
        recordio.read_index(path)


@pytest.mark.parametrize('label', [np.nan, np.inf, -np.inf, [np.nan], 0.5, -1.0])
def test_labels_that_are_no_numbers_of_an_identity(tmp_path, label):
    """Found by benchmarks/drills/fuzz.py."""
    path = write_rec(tmp_path, [(1, pack(label, b'a'))])
    with pytest.raises(DatasetError, match='record 1: the label is'):
        recordio.read_index(path)


def test_missing_index(tmp_path):
    path = insightface_set(tmp_path, [b'a'], [0])
    (tmp_path / 'train.idx').unlink()
    with pytest.raises(DatasetError, match=r'train\.idx cannot be read'):
        recordio.read_index(path)


def test_a_damaged_record_is_found_when_it_is_read(tmp_path):
    path = insightface_set(tmp_path, [b'a' * 40, b'b' * 40], [0, 1])
    parts, _ = recordio.read_index(path)
    path.write_bytes(path.read_bytes()[: parts[1].offset + 50])
    assert parts[0].read() == b'a' * 40
    with pytest.raises(DatasetError, match='cut short'):
        parts[1].read()


IMAGES = [b'\xff\xd8 one', b'two', b'three', b'four']


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    'same', [[True, False], np.array([True, False]), [np.True_, np.False_]]
)
def test_read_bin(tmp_path, protocol, same):
    path = tmp_path / 'lfw.bin'
    path.write_bytes(pickle.dumps((IMAGES, same), protocol))
    images, found = recordio.read_bin(path)
    assert images == IMAGES
    assert found.dtype == bool
    np.testing.assert_array_equal(found, [True, False])


def test_read_bin_of_python_2(tmp_path):
    """Its `str` are bytes. Pickled by hand, protocol 2."""
    path = tmp_path / 'lfw.bin'
    images = b''.join(b'U' + bytes([len(i)]) + i for i in IMAGES)
    path.write_bytes(b'\x80\x02](' + images + b'e](\x88\x89e\x86.')
    images, found = recordio.read_bin(path)
    assert images == IMAGES
    assert found.tolist() == [True, False]


def test_read_bin_of_arrays(tmp_path):
    path = tmp_path / 'lfw.bin'
    arrays = [np.frombuffer(image, np.uint8) for image in IMAGES]
    path.write_bytes(pickle.dumps((arrays, [1, 0])))
    assert recordio.read_bin(path)[0] == IMAGES


class Evil:
    def __reduce__(self):
        return os.system, ('touch /tmp/must-not-be-there',)


class Decoding:
    def __reduce__(self):
        import _codecs

        return _codecs.encode, ('text', 'rot13')


def test_other_pickles_are_refused(tmp_path):
    path = tmp_path / 'lfw.bin'
    path.write_bytes(pickle.dumps((IMAGES, [True, Evil()])))
    with pytest.raises(DatasetError, match=r'asks for posix\.system, .*malicious'):
        recordio.read_bin(path)
    assert not os.path.exists('/tmp/must-not-be-there')
    path.write_bytes(b'cbuiltins\neval\n(S"1"\ntR.')
    with pytest.raises(DatasetError, match=r'builtins\.eval'):
        recordio.read_bin(path)
    # Names with dots would lead from what is allowed to what is not.
    path.write_bytes(b'\x80\x04\x8c\x05numpy\x8c\x0fndarray.__new__\x93.')
    with pytest.raises(DatasetError, match=r'numpy\.ndarray\.__new__'):
        recordio.read_bin(path)
    path.write_bytes(pickle.dumps((IMAGES, [True, Decoding()])))
    with pytest.raises(DatasetError, match="encoding 'rot13'"):
        recordio.read_bin(path)


@pytest.mark.parametrize(
    ('found', 'message'),
    [
        ((IMAGES, [True]), 'a boolean for every two images; found 4 images'),
        ((IMAGES, ['a', 'b']), 'a boolean for every two'),
        (([1, 2], [True]), 'expected images as bytes'),
        (7, 'expected a pair of images and booleans; found int'),
        ((IMAGES, [7, 0]), 'expected booleans; found 7'),
        (([np.array([b'a', None])] * 2, [True]), 'expected images as bytes'),
    ],
)
def test_wrong_bin(tmp_path, found, message):
    path = tmp_path / 'lfw.bin'
    path.write_bytes(pickle.dumps(found))
    with pytest.raises(DatasetError, match=message):
        recordio.read_bin(path)


def called(function, arguments):
    """`(function(*arguments), [True])`, where NumPy's functions are text."""
    module, _, name = function.rpartition('.')
    packed = pickle.dumps(arguments, 2)[2:-1]
    named = f'c{module}\n{name}\n'.encode()
    return b'\x80\x02' + named + packed + b'R](\x88e\x86.'


NDARRAY = b'cnumpy\nndarray\n'
DTYPE = b'cnumpy\ndtype\n'
MADE = b'cnumpy.core.multiarray\n_reconstruct\n' + NDARRAY


@pytest.mark.parametrize(
    'content',
    [
        # Found by benchmarks/drills/fuzz.py, or beside what it found: an image of two
        # gigabytes that nobody wrote;
        b'\x80\x02](' + MADE + b'J\xff\xff\xff\x7fC\x01b\x87R' + b'Ne](\x88e\x86.',
        called('numpy.ndarray', ((4,),)),
        # 2**60 elements without size;
        b'\x80\x02' + MADE + b'K\x00\x85C\x01b\x87R(K\x01'
        b'\x8a\x08\0\0\0\0\0\0\0\x10\x85'
        + DTYPE
        + b'U\x02V0\x85R\x89C\0tb](\x88e\x86.',
        # pointers in the place of bytes, and less bytes than the shape says;
        b'\x80\x02]('
        + MADE
        + b'K\x00\x85C\x01b\x87R(K\x01K\x01\x85'
        + DTYPE
        + b'U\x01O\x85R\x89C\x08\1\1\1\1\1\1\1\1tbNe](\x88e\x86.',
        b'\x80\x02]('
        + MADE
        + b'K\x00\x85C\x01b\x87R(K\x01K\x09\x85'
        + DTYPE
        + b'U\x02u1\x85R\x89C\x01\1tbNe](\x88e\x86.',
        # an array without content;
        b'\x80\x02](' + MADE + b'K\x00C\x01b\x87RNe](\x88e\x86.',
        called('numpy._core.multiarray.scalar', (1, b'x')),
        # deep.
        b'\x80\x02' + b'(' * 9999 + b't' * 9999 + b'.',
    ],
)
def test_arrays_that_no_verification_set_has(tmp_path, content):
    path = tmp_path / 'lfw.bin'
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r'lfw\.bin'):
        recordio.read_bin(path)


def test_a_pickle_changes_nothing_of_the_functions_that_it_gets(tmp_path):
    """BUILD sets attributes of what it is applied to."""
    path = tmp_path / 'lfw.bin'
    defaults = pickle.dumps((None, {'__defaults__': ('latin1',)}), 2)[2:-1]
    path.write_bytes(b'\x80\x02c_codecs\nencode\n' + defaults + b'b.')
    with pytest.raises(DatasetError, match='no attribute'):
        recordio.read_bin(path)


def test_damaged_bin(tmp_path):
    path = tmp_path / 'lfw.bin'
    for content in (b'', pickle.dumps((IMAGES, [True, False]))[:20], b'random'):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match='cannot be read as a verification set'):
            recordio.read_bin(path)
    with pytest.raises(DatasetError, match='No such file'):
        recordio.read_bin(tmp_path / 'missing.bin')
