"""Augmentation against SciPy, and as a function of (seed, step)."""

import itertools

import jax
import numpy as np
import pytest
from scipy import ndimage

from sicnn_jax.config import schema
from sicnn_jax.data import dataset, records
from sicnn_jax.data.augment import Augmentation, augment
from tests.writing import write_set

ALL = Augmentation(
    zoom=0.1, rotation=10.0, brightness=0.1, contrast=0.3, saturation=0.4
)


def _smooth_faces(count):
    """Without the frequencies on which ways of interpolating differ."""
    noise = np.random.default_rng(0).uniform(0, 255, (count, 112, 96, 3))
    smooth = ndimage.gaussian_filter(noise, (0, 4, 4, 0))
    low, high = smooth.min(), smooth.max()
    return np.uint8(np.round(40 + 170 * (smooth - low) / (high - low)))


def _augment(augmentation, hr, **drawn):
    names = ('zoom', 'rotation', 'brightness', 'contrast', 'saturation')
    draws = np.array([[drawn.get(name, 0.0) for name in names]] * len(hr), np.float32)
    return np.asarray(jax.jit(augment, static_argnums=0)(augmentation, hr, draws))


@pytest.mark.parametrize(('zoom', 'rotation'), [(1, 0), (-1, 0), (0, 1), (0.7, -0.8)])
def test_faces_are_turned_as_scipy_turns_them(zoom, rotation):
    hr = _smooth_faces(2)
    found = _augment(ALL, hr, zoom=zoom, rotation=rotation).astype(float)
    factor, angle = 1 + 0.1 * zoom, np.radians(10.0 * rotation)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = np.array([55.5, 47.5])
    matrix = turn / factor
    expected = np.empty_like(found)
    for face, channel in itertools.product(range(2), range(3)):
        expected[face, ..., channel] = ndimage.affine_transform(
            hr[face, ..., channel].astype(float),
            matrix,
            middle - matrix @ middle,
            mode='nearest',
        )
    inside = (slice(None), slice(16, -16), slice(16, -16))
    np.testing.assert_allclose(found[inside], expected[inside], atol=1.5)
    assert np.abs(found[inside] - hr[inside]).max() > 5


def test_light_changes_as_the_fields_say():
    hr = _smooth_faces(1)
    x = hr.astype(float)
    brighter = _augment(ALL, hr, brightness=1.0)
    np.testing.assert_allclose(brighter, x + 25.5, atol=0.51)
    flatter = _augment(ALL, hr, contrast=-1.0)
    np.testing.assert_allclose(flatter, x.mean() + 0.7 * (x - x.mean()), atol=0.51)
    grey = (x @ [0.299, 0.587, 0.114])[..., None]
    paler = _augment(ALL, hr, saturation=-1.0)
    np.testing.assert_allclose(paler, grey + 0.6 * (x - grey), atol=0.51)


def test_levels_are_clipped_and_nothing_drawn_is_nothing_changed():
    hr = _smooth_faces(1)
    white = np.full_like(hr, 250)
    assert (_augment(ALL, white, brightness=1.0) == 255).all()
    np.testing.assert_array_equal(_augment(ALL, hr), hr)
    assert Augmentation().draw(4, seed=0, step=0) == {}


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp('faces') / 'shards'
    faces = [
        records.Face(face, f'p{i % 3}', f'p{i % 3}/{i}.png', source='test')
        for i, face in enumerate(_smooth_faces(7))
    ]
    write_set(path, {'train': faces}, alignment={'kind': 'none'})
    return path


@pytest.mark.parametrize('placement', dataset.PLACEMENTS)
def test_augmented_faces_are_a_function_of_seed_and_step(directory, placement):
    config = schema.base().data
    config.update({'source': 'records', 'dir': str(directory), 'placement': placement})
    plain = dataset.open_faces(config, directory)
    config.update({'rotation': 5.0, 'contrast': 0.2, 'shift': 1})
    faces = dataset.open_faces(config, directory)

    def take(faces, count=1, **settings):
        batches = faces.train_batches(batch_size=4, seed=3, **settings)
        return [
            jax.tree.map(np.asarray, faces.to_hr({**batch, **faces.resident}))
            for batch in itertools.islice(batches, count)
        ]

    whole = take(faces, 3)
    np.testing.assert_equal(take(faces, start_step=2), whole[2:])
    halves = [take(faces, 3, process_index=i, process_count=2) for i in range(2)]
    for batch, *parts in zip(whole, *halves, strict=True):
        assert batch['hr'].dtype == np.uint8
        both = jax.tree.map(lambda *values: np.concatenate(values), *parts)
        np.testing.assert_equal(both, batch)
    # The order is that of faces which are not augmented.
    np.testing.assert_array_equal(whole[0]['label'], take(plain)[0]['label'])
    assert (whole[0]['hr'] != take(plain)[0]['hr']).mean() > 0.3
