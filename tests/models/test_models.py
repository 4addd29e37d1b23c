"""CNNR and CNNH against Table 1, Fig. 2a and independent arithmetic."""

import functools

import flax
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from sicnn_jax.images import enlarge, to_levels
from sicnn_jax.models import CNNH, CNNR, KINDS, Discriminator, cnnh_from, cnnr_from
from sicnn_jax.models.layers import Conv, PReLU, average_pool


def _shapes(model, images):
    """Output shape of every submodule, by path."""

    def outputs(images):
        variables = model.init(jax.random.key(0), images)
        _, captured = model.apply(
            variables, images, capture_intermediates=True, mutable='intermediates'
        )
        return captured['intermediates']

    flat = flax.traverse_util.flatten_dict(jax.eval_shape(outputs, images))
    return {'/'.join(path[:-1]): value[0].shape for path, value in flat.items()}


def _count(model, images):
    params = jax.eval_shape(model.init, jax.random.key(0), images)['params']
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@functools.cache
def _initialised(model):
    """Images that suit a network, and its parameters, initialised on them."""
    size = (112, 96) if isinstance(model, CNNR) else (14, 12)
    images = jax.random.uniform(jax.random.key(0), (16, *size, 3), minval=-1)
    return images, jax.jit(model.init)(jax.random.key(1), images)


def _blank(n, height, width, dtype=jnp.float32):
    return jax.ShapeDtypeStruct((n, height, width, 3), dtype)


def test_cnnr_has_the_shapes_of_table_1():
    shapes = _shapes(CNNR(), _blank(2, 112, 96))
    expected = {
        'conv1a': (110, 94, 64),
        'conv1b': (108, 92, 64),
        'block1_1': (54, 46, 64),
        'conv2': (52, 44, 128),
        'block2_2': (26, 22, 128),
        'conv3': (24, 20, 256),
        'block3_5': (12, 10, 256),
        'conv4': (10, 8, 512),
        'block4_3': (5, 4, 512),
        'fc1': (512,),
    }
    assert {name: shapes[name][1:] for name in expected} == expected
    blocks = [name for name in shapes if name.startswith('block') and '/' not in name]
    assert len(blocks) == 1 + 2 + 5 + 3


def test_cnnh_has_the_shapes_of_figure_2a():
    shapes = _shapes(CNNH(), _blank(2, 14, 12))
    expected = {
        'stem': (14, 12, 64),
        'dense_block1': (14, 12, 256),
        'deconv1': (28, 24, 256),
        'mapping1': (28, 24, 64),
        'deconv2': (56, 48, 256),
        'deconv3': (112, 96, 256),
        'mapping3': (112, 96, 64),
        'dense_block_final': (112, 96, 128),
        'reconstruction': (112, 96, 3),
        '': (112, 96, 3),
    }
    assert {name: shapes[name][1:] for name in expected} == expected
    smaller = _shapes(CNNH(scale=4), _blank(2, 28, 24))
    assert smaller['deconv2'][1:] == (56, 48, 256)
    assert 'deconv1' not in smaller
    assert 'dense_block1' not in smaller
    assert 'mapping1' not in smaller


# Sizes by resolution and by stage, counted by hand from the kernels' shapes.
TAPERED = CNNH(
    width=(64, 64, 32, 16),
    growth=(32, 32, 16, 16),
    depth=(6, 4, 3),
    deconv_width=(128, 64, 32),
    final_depth=1,
)


@pytest.mark.parametrize(
    ('model', 'size', 'parameters'),
    [
        (CNNR(), (112, 96), 27_562_432),
        (CNNH(), (14, 12), 4_723_011),
        (CNNH(scale=4), (28, 24), 3_866_947),
        (CNNH(8, (64,) * 4, (32,) * 4, (6,) * 3, (256,) * 3), (14, 12), 4_723_011),
        (TAPERED, (14, 12), 1_083_459),
        (TAPERED.clone(scale=4), (28, 24), 530_755),
    ],
)
def test_parameter_counts(model, size, parameters):
    assert _count(model, _blank(1, *size)) == parameters


def test_sizes_of_stages_are_where_they_belong():
    shapes = _shapes(TAPERED, _blank(2, 14, 12))
    expected = {
        'stem': (14, 12, 64),
        'dense_block1': (14, 12, 64 + 6 * 32),
        'deconv1': (28, 24, 128),
        'mapping1': (28, 24, 64),
        'dense_block2': (28, 24, 64 + 4 * 32),
        'deconv2': (56, 48, 64),
        'mapping2': (56, 48, 32),
        'dense_block3': (56, 48, 32 + 3 * 16),
        'deconv3': (112, 96, 32),
        'mapping3': (112, 96, 16),
        'dense_block_final': (112, 96, 16 + 16),
    }
    assert {name: shapes[name][1:] for name in expected} == expected
    smaller = _shapes(CNNH(4, (9, 8, 7, 6), 2, (1, 2, 3), 5), _blank(2, 28, 24))
    assert smaller['stem'][1:] == (28, 24, 8)
    assert smaller['dense_block2'][1:] == (28, 24, 8 + 2 * 2)
    assert smaller['mapping3'][1:] == (112, 96, 6)


def test_the_skip_adds_to_the_bicubic_enlargement():
    images, params = _initialised(TINY_CNNH.clone(bicubic_skip=True))
    params['params']['reconstruction'] = jax.tree.map(
        np.zeros_like, params['params']['reconstruction']
    )
    sr = TINY_CNNH.clone(bicubic_skip=True).apply(params, images[:2])
    levels = to_levels(images[:2])
    np.testing.assert_allclose(
        to_levels(sr).astype(int), enlarge(levels).astype(int), atol=2
    )


@pytest.mark.parametrize(
    ('field', 'sizes', 'count'), [('width', (4, 4, 4), 4), ('depth', (1, 1, 1, 1), 3)]
)
def test_another_number_of_sizes_is_refused(field, sizes, count):
    model = TINY_CNNH.clone(**{field: sizes})
    with pytest.raises(ValueError, match=f'{field} is .* one number, or {count} of'):
        jax.eval_shape(model.init, jax.random.key(0), _blank(1, 14, 12))


def test_the_gain_of_the_reconstruction_makes_first_faces_greyer():
    images, params = _initialised(TINY_CNNH)
    _, greyer = _initialised(TINY_CNNH.clone(reconstruction_gain=0.1))
    kernels = [p['params']['reconstruction']['kernel'] for p in (params, greyer)]
    np.testing.assert_allclose(0.1 * kernels[0], kernels[1], rtol=1e-6)
    sr = jax.jit(TINY_CNNH.apply)
    assert np.std(sr(greyer, images)) < 0.2 * np.std(sr(params, images))


TINY_CNNR = CNNR(widths=(2, 3, 4, 5), depths=(1, 1, 2, 1), feature_dim=6)
TINY_CNNH = CNNH(width=4, growth=2, depth=2, deconv_width=5, final_depth=1)


@pytest.mark.parametrize('model', [TINY_CNNR, TINY_CNNH])
def test_bfloat16_computes_close_to_float32_with_float32_parameters(model):
    images, params = _initialised(model)
    half = model.clone(dtype=jnp.bfloat16)
    shapes = jax.eval_shape(half.init, jax.random.key(1), images)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes))
    exact = jax.jit(model.apply)(params, images)
    rounded = jax.jit(half.apply)(params, images)
    assert rounded.dtype == jnp.float32
    np.testing.assert_allclose(rounded, exact, atol=0.1 * np.abs(exact).max())
    assert not np.array_equal(rounded, exact)


def test_output_of_cnnh_stays_in_range():
    images, params = _initialised(TINY_CNNH)
    sr = jax.jit(TINY_CNNH.apply)(params, 50 * images)
    assert sr.shape == (16, 112, 96, 3)
    assert np.abs(sr).max() <= 1


def test_wrong_input_is_refused():
    with pytest.raises(AssertionError):
        jax.eval_shape(TINY_CNNR.init, jax.random.key(0), _blank(1, 96, 112))
    with pytest.raises(AssertionError):
        jax.eval_shape(TINY_CNNH.init, jax.random.key(0), _blank(1, 28, 24))
    with pytest.raises(ValueError, match='scale is 2'):
        jax.eval_shape(CNNH(scale=2).init, jax.random.key(0), _blank(1, 56, 48))


def test_sizes_may_be_lists_and_fit_each_other():
    assert hash(CNNR(widths=[2] * 4, depths=[1] * 4)) == hash(
        CNNR(widths=(2,) * 4, depths=(1,) * 4)
    )
    with pytest.raises(ValueError, match='one of each for every level'):
        jax.eval_shape(
            CNNR(widths=(8, 8, 8)).init, jax.random.key(0), _blank(1, 112, 96)
        )


def test_models_are_rebuilt_from_their_record():
    record = {
        'scale': 4,
        'models': {
            'cnnr': {'widths': [2, 3, 4, 5], 'feature_dim': 6, 'dtype': 'bfloat16'},
            'cnnh': {'width': 4, 'param_dtype': 'float32'},
        },
    }
    assert cnnr_from(record) == CNNR((2, 3, 4, 5), feature_dim=6, dtype=jnp.bfloat16)
    assert cnnh_from(record) == CNNH(scale=4, width=4)


@pytest.mark.parametrize('size', [(108, 92), (7, 4), (5, 8), (3, 3)])
def test_average_pool_divides_by_the_valid_pixels(size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3))
    height, width = (-(-(side - 3) // 2) + 1 for side in size)
    expected = np.empty((2, height, width, 3))
    for i in range(height):
        for j in range(width):
            window = x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            expected[:, i, j] = window.mean((1, 2))
    np.testing.assert_allclose(
        average_pool(jnp.asarray(x, jnp.float32)), expected, atol=1e-6
    )


def test_prelu_has_a_slope_for_each_channel():
    x = jnp.array([[-2.0, -2.0], [3.0, 3.0]])
    variables = PReLU().init(jax.random.key(0), x)
    np.testing.assert_allclose(variables['params']['slope'], [0.25, 0.25])
    learned = {'params': {'slope': jnp.array([0.5, -1.0])}}
    np.testing.assert_allclose(PReLU().apply(learned, x), [[-1.0, 2.0], [3.0, 3.0]])


def test_initialisation_normalises_each_channel_on_its_batch():
    x = 3 + 5 * jax.random.normal(jax.random.key(0), (8, 9, 7, 4))
    layer = Conv(6, init_std=2.0)
    y = layer.apply(layer.init(jax.random.key(1), x), x)
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(y.std((0, 1, 2)), 2, atol=1e-3)


def test_initialised_features_point_in_all_directions():
    images, params = _initialised(TINY_CNNR)
    features = jax.jit(TINY_CNNR.apply)(params, images)
    unit = features / jnp.linalg.norm(features, axis=1, keepdims=True)
    between = (unit @ unit.T)[~np.eye(16, dtype=bool)]
    assert abs(between.mean()) < 0.1


def test_blank_images_do_not_break_initialisation():
    params = Conv(4, init_std=1.0).init(jax.random.key(0), jnp.zeros((2, 5, 5, 3)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize('batch', ['one face', 'the same twice', 'blank'])
def test_a_batch_that_does_not_vary_does_not_break_a_network(batch):
    faces = jax.random.uniform(jax.random.key(0), (4, 112, 96, 3), minval=-1)
    model = CNNR((2, 2, 2, 2), (0, 0, 0, 0), feature_dim=8)
    first = {
        'one face': faces[:1],
        'the same twice': faces[:1].repeat(2, axis=0),
        'blank': jnp.zeros((2, 112, 96, 3)),
    }[batch]
    variables = jax.jit(model.init)(jax.random.key(0), first)
    assert max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(variables)) < 100
    norms = jnp.linalg.norm(jax.jit(model.apply)(variables, faces), axis=1)
    assert norms.max() < 100 and norms.max() < 20 * norms.min()


def test_parameters_have_the_type_that_was_asked_for():
    images, _ = _initialised(CNNR((2, 2, 2, 2), (1, 1, 1, 1), feature_dim=4))
    model = CNNR((2, 2, 2, 2), (1, 1, 1, 1), 4, param_dtype=jnp.bfloat16)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    types = {leaf.dtype.name for leaf in jax.tree.leaves(variables)}
    assert types == {'bfloat16'}


@pytest.mark.parametrize(
    'model, size',
    [(kind(), (14, 12)) for kind in KINDS.values()]
    + [(CNNR(), (112, 96)), (Discriminator(), (112, 96))],
)
def test_levels_are_refused(model, size):
    levels = jax.ShapeDtypeStruct((2, *size, 3), jnp.uint8)
    with pytest.raises(TypeError, match='given uint8; expected floats'):
        jax.eval_shape(model.init, jax.random.key(0), levels)


def test_a_batch_of_any_size_can_be_exported():
    model = CNNH(width=64, growth=32, depth=1, deconv_width=64, final_depth=1)
    (n,) = jax.export.symbolic_shape('n')
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 14, 12, 3)))
    lr = jax.ShapeDtypeStruct((n, 14, 12, 3), jnp.float32)
    exported = jax.export.export(jax.jit(model.apply))(params, lr)
    assert exported.out_avals[0].shape == (n, 112, 96, 3)
