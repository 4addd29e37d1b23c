import numpy as np
import pytest
from PIL import Image

from sicnn_jax.data import records
from sicnn_jax.data.preparing import convert, overlap
from sicnn_jax.data.records import DatasetError, Face
from tests.writing import write_set


def face(seed):
    """A picture with as much at low as at high frequencies."""
    rng = np.random.default_rng(seed)
    blocks = Image.fromarray(rng.integers(0, 256, (14, 12, 3), np.uint8))
    return np.asarray(blocks.resize((96, 112), Image.Resampling.BICUBIC))


def fingerprints(*faces):
    return overlap.as_array([convert.fingerprint(face) for face in faces])


def encoded_anew(face):
    return records.decode_image(records.encode_image(face, 'jpeg'))


def test_copies_are_found_and_others_are_not():
    original = face(0)
    half = np.asarray(Image.fromarray(original).resize((48, 56), Image.BICUBIC))
    brighter = np.uint8(np.clip(original * 1.1 + 8.0, 0, 255))
    copies = [original, encoded_anew(original), half, brighter, original[:, ::-1]]
    train = fingerprints(*copies, *map(face, range(1, 60)))
    test = fingerprints(face(100), original, face(101))
    nearest, distance = overlap.near_duplicates(train, test)
    np.testing.assert_array_equal(nearest, [1] * 5 + [-1] * 59)
    assert distance[0] == 0
    assert distance[5:].min() > overlap.DUPLICATE_BITS


def test_distances_are_those_of_bits():
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (2000, 32), np.uint8)
    test = train[[1500, 3]].copy()
    test[0, 7] ^= 0b1010
    test[1] ^= 255
    nearest, distance = overlap.near_duplicates(train, test, bits=2)
    assert nearest[1500] == 0
    assert distance[1500] == 2
    assert (nearest >= 0).sum() == 1
    assert (overlap.near_duplicates(train, test, bits=1)[0] == -1).all()


def test_nothing_to_compare_with():
    train = fingerprints(face(0), face(1))
    assert overlap.near_duplicates(train, train[:0])[0].tolist() == [-1, -1]
    assert overlap.near_duplicates(train[:0], train)[0].shape == (0,)


@pytest.mark.parametrize(
    ('name', 'comparable'),
    [
        ('Beyoncé Knowles', 'beyonce_knowles'),
        ('BEYONCE__Knowles ', 'beyonce_knowles'),
        ('n000012', 'n000012'),
        ("Conan O'Brien", 'conan_o_brien'),
        ('王菲', '王菲'),
    ],
)
def test_names_as_sets_spell_them(name, comparable):
    assert overlap.comparable_name(name) == comparable


def test_excluded_by_files_and_data_sets(tmp_path):
    (tmp_path / 'names.txt').write_text('Jane Doe\n\n0000045\n')
    faces = [Face(face(i), name, f'{i}.png') for i, name in enumerate(['7', 'John'])]
    write_set(tmp_path / 'set', {'test': faces}, alignment=None)
    excluded = overlap.read_excluded([tmp_path / 'names.txt', tmp_path / 'set'])
    # Numbers are names where a person wrote them, and none where a data set counts.
    assert set(excluded.identities) == {'jane_doe', '0000045', 'john'}
    assert excluded.identities['john'] == str(tmp_path / 'set')
    assert excluded.keys == [f'{tmp_path / "set"}: {i}.png' for i in range(2)]
    np.testing.assert_array_equal(excluded.fingerprints, fingerprints(face(0), face(1)))


def test_what_cannot_be_excluded(tmp_path):
    with pytest.raises(DatasetError, match='cannot be read'):
        overlap.read_excluded([tmp_path / 'missing.txt'])
    (tmp_path / 'empty.txt').write_text('\n')
    with pytest.raises(DatasetError, match='expected one identity per line'):
        overlap.read_excluded([tmp_path / 'empty.txt'])
    with pytest.raises(DatasetError, match=r'faces\.json is missing'):
        overlap.read_excluded([tmp_path])
