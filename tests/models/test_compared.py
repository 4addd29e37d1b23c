"""The compared methods' networks against their papers and plain NumPy."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sicnn_jax import images
from sicnn_jax.models import (
    CNNR,
    URDGN,
    Discriminator,
    LapSRN,
    PositionPatch,
    cnnh_from,
    discriminator_from,
)
from sicnn_jax.models.convolutions import transposed_convolution
from sicnn_jax.models.lapsrn import bilinear
from sicnn_jax.models.position_patch import combination_weights, patch_positions

SIZES = {8: (14, 12), 4: (28, 24), 1: (112, 96)}


def _blank(n, scale):
    return jax.ShapeDtypeStruct((n, *SIZES[scale], 3), jnp.float32)


def _params(model, scale):
    return jax.eval_shape(model.init, jax.random.key(0), _blank(1, scale))['params']


def _count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _conv(side, channels, features):
    return side**2 * channels * features + features


def _lapsrn(levels, depth):
    """Of the description in Sec. 3.3 of the paper, for three colours."""
    level = depth * _conv(3, 64, 64) + _conv(4, 64, 64)
    return _conv(3, 3, 64) + levels * (level + _conv(3, 64, 3) + _conv(4, 3, 3))


@pytest.mark.parametrize(
    ('model', 'scale', 'parameters'),
    [
        (LapSRN(), 8, _lapsrn(3, 5)),
        (LapSRN(scale=4, depth=10), 4, _lapsrn(2, 10)),
        (URDGN(), 8, 3_199_299),
        (
            URDGN(scale=4),
            4,
            _conv(5, 3, 128)
            + _conv(5, 128, 128)
            + _conv(5, 128, 64)
            + _conv(5, 64, 64)
            + _conv(5, 64, 3),
        ),
        (
            Discriminator(),
            1,
            _conv(5, 3, 32)
            + _conv(5, 32, 64)
            + _conv(5, 64, 128)
            + _conv(5, 128, 256)
            + _conv(1, 7 * 6 * 256, 1),
        ),
    ],
)
def test_parameter_counts(model, scale, parameters):
    assert _count(_params(model, scale)) == parameters


def test_lapsrn_is_as_deep_as_its_paper_says():
    """Table 1 there: 27 layers for 4×, transposed convolutions of the image too."""
    kernels = [
        path
        for path in flax.traverse_util.flatten_dict(
            _params(LapSRN(scale=4, depth=10), 4)
        )
        if path[-1] == 'kernel'
    ]
    assert len(kernels) == 27


@pytest.mark.parametrize('model', [LapSRN(), URDGN(), PositionPatch(num_faces=2)])
@pytest.mark.parametrize('scale', [8, 4])
def test_lr_becomes_hr(model, scale):
    model = model.clone(scale=scale)
    variables = jax.eval_shape(model.init, jax.random.key(0), _blank(2, scale))
    sr = jax.eval_shape(model.apply, variables, _blank(2, scale))
    assert (sr.shape, sr.dtype) == ((2, 112, 96, 3), jnp.float32)
    with pytest.raises(AssertionError):
        jax.eval_shape(model.apply, variables, _blank(2, 12 - scale))
    with pytest.raises(ValueError, match='scale is 2'):
        jax.eval_shape(model.clone(scale=2).init, jax.random.key(0), _blank(2, 4))


def test_the_pyramid_of_lapsrn_doubles_up_to_the_face():
    model = LapSRN(width=4, depth=1, dtype=jnp.bfloat16)
    pyramid = jax.eval_shape(
        functools.partial(model.apply, method='pyramid'),
        {'params': _params(model, 8)},
        _blank(2, 8),
    )
    assert [level.shape[1:3] for level in pyramid] == [(28, 24), (56, 48), (112, 96)]
    assert all(level.dtype == jnp.float32 for level in pyramid)


def test_lapsrn_begins_as_bilinear_interpolation():
    lr = np.random.default_rng(0).uniform(-1, 1, (2, 6, 5, 3)).astype(np.float32)
    enlarged = transposed_convolution(lr, bilinear(None, (4, 4, 3, 3)))
    expected = jax.image.resize(lr, enlarged.shape, 'linear')
    # At the border a deconvolution sees zeros.
    inside = np.s_[:, 1:-1, 1:-1]
    np.testing.assert_allclose(enlarged[inside], expected[inside], atol=1e-6)


def test_the_discriminator_gives_a_logit_a_face():
    model = Discriminator(widths=(2, 3), dtype=jnp.bfloat16)
    logits = jax.eval_shape(model.apply, {'params': _params(model, 1)}, _blank(5, 1))
    assert (logits.shape, logits.dtype) == ((5,), jnp.float32)


def test_block_activations_are_those_of_table_1():
    params = _params(CNNR(), 1)
    second, last = jax.eval_shape(CNNR().activate, params, _blank(2, 1))
    assert second.shape == (2, 26, 22, 128)
    assert last.shape == (2, 5, 4, 512)


def test_the_last_activations_give_the_features():
    cnnr = CNNR(widths=(2, 2, 2, 3), depths=(1, 1, 1, 1), feature_dim=4)
    rng = np.random.default_rng(0)
    faces = rng.uniform(-1, 1, (2, 112, 96, 3)).astype(np.float32)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32),
        _params(cnnr, 1),
    )

    @jax.jit
    def both(params, faces):
        _, last = cnnr.activate(params, faces)
        return last, cnnr.apply({'params': params}, faces)

    last, features = both(params, faces)
    fc1 = params['fc1']
    np.testing.assert_allclose(
        last.reshape(2, -1) @ fc1['kernel'] + fc1['bias'], features, rtol=1e-4
    )


def _by_hand(lr, lr_faces, hr_faces, model):
    """Ma et al. in float64: Gram matrices and Lagrange's multiplier, patch by patch."""
    side, scale = model.patch, model.scale
    total, count = np.zeros((112, 96, 3)), np.zeros((112, 96, 1))
    tau = model.regularisation * len(lr_faces)
    for y, x in patch_positions(*lr.shape[:2], side, model.overlap):
        patch = lr[y : y + side, x : x + side].ravel()
        small = lr_faces[:, y : y + side, x : x + side].reshape(len(lr_faces), -1)
        gram = (patch - small) @ (patch - small).T + tau * np.eye(len(lr_faces))
        weights = np.linalg.solve(gram, np.ones(len(lr_faces)))
        weights /= weights.sum()
        rows = slice(y * scale, (y + side) * scale)
        columns = slice(x * scale, (x + side) * scale)
        total[rows, columns] += np.einsum(
            'f,fhwc->hwc', weights, hr_faces[:, rows, columns]
        )
        count[rows, columns] += 1
    return total / count


@pytest.mark.parametrize(('scale', 'patch', 'overlap'), [(8, 3, 1), (4, 5, 3)])
def test_position_patches_equal_the_closed_form(scale, patch, overlap):
    """More faces than values in a patch, and a patch at the border that fits by luck
    or not.
    """
    model = PositionPatch(scale, patch, overlap, num_faces=90, regularisation=1e-3)
    rng = np.random.default_rng(0)
    hr = rng.integers(0, 256, (91, 112, 96, 3), dtype=np.uint8)
    lr = np.asarray(images.degrade(jnp.asarray(hr), scale=scale))
    params = model.fit(lr[1:], hr[1:])
    found = jax.jit(model.apply)({'params': params}, images.to_float(lr[:1]))
    as_float = [(np.float64(faces) - 127.5) / 128 for faces in (lr, hr)]
    expected = _by_hand(as_float[0][0], as_float[0][1:], as_float[1][1:], model)
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_weights_add_up_to_one_and_are_the_least():
    rng = np.random.default_rng(0)
    patches, training = rng.normal(size=(4, 6)), 2 + rng.normal(size=(9, 6))
    weights = combination_weights(jnp.asarray(patches), jnp.asarray(training), 0.1)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)

    def cost(weights):
        return np.square(patches - weights @ training).sum() + 0.1 * (weights**2).sum()

    best = np.float64(weights)
    for _ in range(20):
        change = 0.1 * rng.normal(size=best.shape)
        assert cost(best) < cost(best + change - change.mean(1, keepdims=True))


def test_a_face_it_knows_is_recalled():
    """It memorises 16 faces: with nothing to regularise, each combines itself alone."""
    rng = np.random.default_rng(0)
    hr = rng.integers(0, 256, (16, 112, 96, 3), dtype=np.uint8)
    lr = np.asarray(images.degrade(jnp.asarray(hr), scale=4))
    model = PositionPatch(scale=4, num_faces=16, regularisation=1e-7)
    sr = jax.jit(model.apply)({'params': model.fit(lr, hr)}, images.to_float(lr))
    np.testing.assert_allclose(sr, images.to_float(hr), atol=0.02)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'patch': 13}, 'patch is 13; expected 1 to 12'),
        ({'overlap': 3}, 'overlap is 3; expected from 0'),
        ({'num_faces': 0}, 'num_faces'),
        ({'regularisation': 0.0}, 'regularisation'),
    ],
)
def test_settings_that_make_no_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        PositionPatch(**change)


@pytest.mark.parametrize('height', [14, 28])
def test_patches_cover_the_face(height):
    positions = patch_positions(height, 12, 3, 1)
    covered = np.zeros((height, 12))
    for y, x in positions:
        covered[y : y + 3, x : x + 3] += 1
    assert covered.min() == 1
    assert len(np.unique(positions, axis=0)) == len(positions)


def test_models_are_rebuilt_from_their_record():
    record = {
        'scale': 4,
        'models': {
            'cnnh': {'kind': 'ur_dgn', 'widths': [4, 3, 2], 'dtype': 'bfloat16'},
            'discriminator': {'widths': [2, 3]},
        },
    }
    assert cnnh_from(record) == URDGN(4, (4, 3, 2), dtype=jnp.bfloat16)
    assert discriminator_from(record) == Discriminator((2, 3))
    record['models']['cnnh'] = {'kind': 'lapsrn', 'growth': 2}
    with pytest.raises(ValueError, match="'growth', which a LapSRN does not have"):
        cnnh_from(record)
    record['models']['cnnh'] = {'kind': 'vdsr'}
    with pytest.raises(ValueError, match='expected one of cnnh, lapsrn'):
        cnnh_from(record)
