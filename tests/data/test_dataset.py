"""Faces held on the device, and those that do not fit there."""

import itertools

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from sicnn_jax.config import schema
from sicnn_jax.data import dataset, records
from tests.writing import write_set


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    """Seven faces, whose red is their number and whose green is the column."""
    path = tmp_path_factory.mktemp('faces') / 'shards'
    pixels = np.zeros((7, 112, 96, 3), np.uint8)
    pixels[..., 0] = np.arange(7)[:, None, None]
    pixels[..., 1] = np.arange(96)
    pixels[..., 2] = np.arange(112)[:, None]
    faces = [
        records.Face(face, f'p{i % 3}', f'p{i % 3}/{i}.png', source='test')
        for i, face in enumerate(pixels)
    ]
    write_set(path, {'train': faces}, alignment={'kind': 'none'})
    return path


def _config(directory, **changes) -> ConfigDict:
    config = schema.base().data
    config.update({'source': 'records', 'dir': str(directory), 'placement': 'device'})
    config.update(changes)
    return config


def _take(faces, count, batch_size, **settings):
    batches = faces.train_batches(batch_size=batch_size, seed=3, **settings)
    return list(itertools.islice(batches, count))


def test_every_epoch_visits_every_face_once(directory):
    faces = dataset.open_faces(_config(directory), directory)
    drawn = np.concatenate([batch['index'] for batch in _take(faces, 7, 4)])
    epochs = drawn.reshape(4, 7)
    for epoch in epochs:
        assert sorted(epoch) == list(range(7))
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_the_order_is_one_of_seed_and_step(directory):
    faces = dataset.open_faces(_config(directory, shift=3), directory)
    whole = _take(faces, 3, 4)
    np.testing.assert_equal(_take(faces, 1, 4, start_step=2), whole[2:])
    halves = [
        _take(faces, 3, 4, process_index=index, process_count=2) for index in range(2)
    ]
    for batch, *parts in zip(whole, *halves, strict=True):
        for name, value in batch.items():
            np.testing.assert_array_equal(
                np.concatenate([part[name] for part in parts]), value
            )


def test_faces_come_mirrored_and_moved(directory):
    faces = dataset.open_faces(_config(directory, shift=3), directory)
    for batch in _take(faces, 6, 4):
        made = jax.jit(faces.to_hr)({**batch, **faces.resident})
        hr = np.asarray(made['hr'])
        assert hr.dtype == np.uint8
        np.testing.assert_array_equal(hr[:, 0, 0, 0], batch['index'])
        for face, mirrored, (y, x) in zip(
            hr, batch['mirrored'], batch['moved'], strict=True
        ):
            columns = np.arange(96)[::-1] if mirrored else np.arange(96)
            columns = columns[np.clip(np.arange(96) + x, 0, 95)]
            np.testing.assert_array_equal(face[0, :, 1], columns)
            rows = np.clip(np.arange(112) + y, 0, 111)
            np.testing.assert_array_equal(face[:, 0, 2], rows)
        read, labels = dataset.read_split(directory, 'train')
        np.testing.assert_array_equal(made['label'], labels[batch['index']])
        assert len(read) == 7


def test_faces_that_do_not_fit_the_device_are_refused(directory, monkeypatch):
    monkeypatch.setattr(dataset, 'device_bytes', lambda: 250_000)
    with pytest.raises(ValueError, match=r"set data\.placement to 'host'"):
        dataset.open_faces(_config(directory), directory)


@pytest.mark.parametrize('placement', dataset.PLACEMENTS)
def test_keys_are_those_of_the_batch(directory, placement):
    """The red of each face is its number, which its key has, too."""
    config = _config(directory, placement=placement)
    faces = dataset.open_faces(config, directory)
    for step, batch in enumerate(_take(faces, 3, 4)):
        keys = faces.batch_keys(batch_size=4, seed=3, step=step)
        hr = faces.to_hr({**batch, **faces.resident})['hr']
        numbers = [int(key.split('/')[1].removesuffix('.png')) for key in keys]
        np.testing.assert_array_equal(np.asarray(hr)[:, 0, 0, 0], numbers)


def test_misaligned_faces_are_another_data_set(tmp_path):
    few = dict.fromkeys(('identities', 'test_identities'), 1) | {
        'images_per_identity': 2,
        'test_images_per_identity': 1,
    }
    embedded = {'source': 'embedded', 'placement': 'host', **few}
    config = _config(tmp_path / 'shards', **embedded)
    faces = dataset.open_faces(config, tmp_path)
    aligned, _ = faces.test_faces()
    config.misalignment = 0.5
    with pytest.raises(records.DatasetError, match='misalignment'):
        dataset.open_faces(config, tmp_path)
    config.dir = ''
    misaligned, _ = dataset.open_faces(config, tmp_path).test_faces()
    assert (aligned != misaligned).mean() > 0.5
    config.source = 'procedural'
    rendered = dataset.open_faces(config, tmp_path)
    np.testing.assert_allclose(rendered.test_faces()[0], misaligned, atol=60)
    assert 'misalignment 0.5' in rendered.fingerprint


def test_without_held_out_people_there_are_no_test_faces(directory):
    hr, labels = dataset.open_faces(_config(directory), directory).test_faces()
    assert hr.shape == (0, 112, 96, 3) and labels.shape == (0,)
