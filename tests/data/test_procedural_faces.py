"""Procedural faces: determinism, independence of the batch, identity and anatomy."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sicnn_jax.data.procedural_faces import (
    drawing,
    parameters,
    render_face,
    render_faces,
)
from sicnn_jax.template import HEIGHT, WIDTH
from tests.tiny_training import RUNS_LONG

PEOPLE, VIEWS = 16, 8
IDENTITIES = np.repeat(np.arange(PEOPLE, dtype=np.int32), VIEWS)
IMAGES = np.tile(np.arange(VIEWS, dtype=np.int32), PEOPLE)
# It draws two thousand faces.
render = jax.jit(render_faces, compiler_options=RUNS_LONG)


@pytest.fixture(scope='module')
def album():
    """uint8 [16, 8, 112, 96, 3]: sixteen people, eight pictures of each."""
    album = np.asarray(render(0, IDENTITIES, IMAGES))
    return album.reshape(PEOPLE, VIEWS, HEIGHT, WIDTH, 3)


@pytest.fixture(scope='module')
def crowd():
    """float32 [512, 112, 96, 3]: the same code compiled once, many people."""
    chunks = [
        render(0, np.arange(i, i + 128, dtype=np.int32), IMAGES)
        for i in range(1000, 1512, 128)
    ]
    return np.concatenate(chunks).astype(np.float32)


@pytest.fixture(scope='module')
def people():
    """Five hundred identities, stacked."""
    keys = jax.random.split(jax.random.key(3), 512)
    return jax.jit(jax.vmap(parameters.sample_identity))(keys)


def levels_apart(a, b):
    return np.abs(np.asarray(a, np.int32) - np.asarray(b, np.int32)).max()


def test_shape_dtype_and_range(album):
    assert album.dtype == np.uint8
    assert album.shape[2:] == (112, 96, 3) == (HEIGHT, WIDTH, 3)
    assert album.min() < 30 and album.max() > 225
    contrast = album.reshape(PEOPLE * VIEWS, -1).std(axis=1)
    assert contrast.min() > 5.0  # no blank picture


def test_the_same_call_gives_the_same_pictures(album):
    again = np.asarray(render(0, IDENTITIES, IMAGES)).reshape(album.shape)
    np.testing.assert_array_equal(again, album)


def test_a_picture_does_not_depend_on_its_batch(album):
    order = np.random.default_rng(0).permutation(IDENTITIES.size)
    shuffled = render(0, IDENTITIES[order], IMAGES[order])
    np.testing.assert_array_equal(shuffled, album.reshape(-1, 112, 96, 3)[order])


def test_a_picture_does_not_depend_on_the_batch_size(album):
    few = jax.jit(render_faces)(0, IDENTITIES[5:10], IMAGES[5:10])  # a chunk has 16
    assert levels_apart(few, album.reshape(-1, 112, 96, 3)[5:10]) <= 1


def test_seed_identity_and_image_each_change_the_picture(album):
    other_seed = np.asarray(render(1, IDENTITIES, IMAGES)).reshape(album.shape)
    for a, b in [
        (album, other_seed),
        (album[:-1], album[1:]),
        (album[:, :-1], album[:, 1:]),
    ]:
        change = np.abs(a.astype(np.float32) - b.astype(np.float32)).mean((2, 3, 4))
        assert change.min() > 3.0


def test_identity_is_kept_under_a_plain_view(people):
    """Eyes to mouth, frontal and evenly lit: a person's own picture is the nearest."""
    few = jax.tree.map(lambda x: x[:PEOPLE], people)

    def pictures(key):
        view = parameters.sample_view(key)
        calm = {name: 0.2 * view[i] for i, name in enumerate(view._fields[:10])}
        calm |= {'pose_scale': 1.0, 'eye_open': 1.0, 'light_ambient': 0.8}
        calm |= {'colour_saturation': 1.0, 'shadow_depth': -1.0, 'glasses_worn': 0.5}
        calm |= {'hat_worn': 0.0, 'occluder_kind': 1.0}
        calm = view._replace(**jax.tree.map(jnp.float32, calm))
        draw = jax.vmap(render_face, in_axes=(0, None))
        grey = draw(few, calm)[:, 34:102, 20:76].mean(-1).reshape(PEOPLE, -1)
        grey -= grey.mean(1, keepdims=True)
        return grey / jnp.linalg.norm(grey, axis=1, keepdims=True)

    pictures = jax.jit(pictures)
    similarity = pictures(jax.random.key(1)) @ pictures(jax.random.key(2)).T
    own = np.diagonal(similarity)
    others = np.asarray(similarity)[~np.eye(PEOPLE, dtype=bool)]
    assert own.mean() > others.mean() + 2.0 * others.std()
    assert (np.argmax(similarity, axis=1) == np.arange(PEOPLE)).mean() > 0.8


def test_colours_say_little_about_who_it_is(album):
    """Mean colours vary more between the views of a person than between people."""
    colour = album.astype(np.float32).mean(axis=(2, 3))
    within = colour.var(axis=1).mean()
    between = colour.mean(axis=1).var(axis=0).mean()
    assert within > 1.5 * between


def test_anatomy_of_the_mean_face(crowd):
    """The parts lie where the five-point template has them."""
    mean = crowd.mean(axis=0)
    grey = mean.mean(axis=-1)

    def at(plane, x, y, reach=2):
        rows, columns = (slice(round(c) - reach, round(c) + reach + 1) for c in (y, x))
        return plane[rows, columns].mean()

    cheeks = (at(grey, 28, 74) + at(grey, 68, 74)) / 2
    for x, y in [(30.3, 51.7), (65.5, 51.5)]:
        assert at(grey, x, y) < 0.9 * cheeks
    assert at(grey, 48, 72.5) < cheeks + 5.0
    redness = mean[..., 0] / mean[..., 1]
    assert at(redness, 48, 93) > 1.1 * (at(redness, 28, 74) + at(redness, 68, 74)) / 2
    assert grey[:8].mean() < 0.85 * cheeks  # hair
    np.testing.assert_allclose(grey, grey[:, ::-1], atol=25.0)


def test_parameters_cover_their_ranges(people):
    values = np.stack(people[:-1])
    unit = values - values.min(axis=1, keepdims=True)
    unit /= unit.max(axis=1, keepdims=True)
    np.testing.assert_allclose(unit.mean(axis=1), 0.5, atol=0.08)
    assert people.spots.shape == (512, 24, 4)
    factors = np.linalg.svd(np.corrcoef(values))[1]
    assert factors[:20].sum() > 0.6 * factors.sum()  # fine detail is predictable


def test_import_needs_no_tensorflow_and_starts_no_device():
    script = (
        'import sys; import sicnn_jax.data.procedural_faces\n'
        'from jax._src import xla_bridge\n'
        'assert "tensorflow" not in sys.modules\n'
        'assert not xla_bridge.backends_are_initialized()'
    )
    subprocess.run([sys.executable, '-c', script], check=True)


def test_misaligned_faces_are_framed_another_way(album):
    render_misaligned = jax.jit(render_faces, static_argnums=3)
    some = np.arange(4, dtype=np.int32)
    aligned = album[some, some].astype(np.float32)
    moved, again = (np.asarray(render_misaligned(0, some, some, 1.0)) for _ in range(2))
    np.testing.assert_array_equal(moved, again)
    assert np.abs(moved - aligned).mean(axis=(1, 2, 3)).min() > 5.0


@pytest.mark.parametrize('amount', [0.5, 1.0])
def test_misalignment_is_within_its_range(amount):
    keys = jax.random.split(jax.random.key(0), 256)
    views = jax.jit(jax.vmap(parameters.sample_view))(keys)
    moved = jax.vmap(lambda view, key: drawing._misalign(view, key, amount))(
        views, keys
    )
    for found, most in (
        (moved.pose_roll - views.pose_roll, 0.35),
        (moved.pose_scale / views.pose_scale - 1.0, 0.2),
        (moved.pose_x - views.pose_x, 8.0),
        (moved.pose_y - views.pose_y, 8.0),
    ):
        largest = np.abs(found).max()
        assert 0.9 * amount * most < largest <= amount * most * (1 + 1e-5)
    assert (moved.light_x == views.light_x).all()
