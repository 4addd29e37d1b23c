"""Every way to convolve against the convolution itself, with gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sicnn_jax.models.convolutions import (
    convolution,
    frozen_convolution,
    image_convolution,
    inference_options,
    patch_convolution,
    tap_convolution,
    transposed_convolution,
    winograd_convolution,
)
from tests import counting

_PADDINGS = [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((1, 0), (0, 1))]


@pytest.mark.parametrize('kernel_size', [2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize('size', [(4, 3), (5, 6), (1, 1)])
def test_deconvolution_equals_the_transposed_convolution(kernel_size, size):
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    kernel = jax.random.normal(jax.random.key(1), (kernel_size, kernel_size, 3, 4))
    flax_layer = nn.ConvTranspose(
        4, (kernel_size, kernel_size), (2, 2), 'SAME', use_bias=False
    )

    def reference(x, kernel):
        return flax_layer.apply({'params': {'kernel': kernel}}, x)

    _assert_equal_with_gradients(transposed_convolution, reference, x, kernel)


@pytest.mark.parametrize('kernel_size', [1, 3, 5])
@pytest.mark.parametrize('size', [(4, 3), (6, 9), (1, 1)])
def test_image_convolution_equals_the_convolution(kernel_size, size):
    x = jax.random.normal(jax.random.key(0), (2, *size, 5))
    kernel = jax.random.normal(jax.random.key(1), (kernel_size, kernel_size, 5, 3))
    flax_layer = nn.Conv(3, (kernel_size, kernel_size), use_bias=False)

    def reference(x, kernel):
        return flax_layer.apply({'params': {'kernel': kernel}}, x)

    _assert_equal_with_gradients(image_convolution, reference, x, kernel)


def test_even_kernels_to_few_features_are_the_convolution():
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, 5))
    kernel = jax.random.normal(jax.random.key(1), (2, 2, 5, 3))
    same = jax.jit(lambda x: convolution(x, kernel, 'SAME'))(x)
    np.testing.assert_allclose(same, _convolution(x, kernel, 'SAME'), atol=1e-5)


@pytest.mark.parametrize('kernel_size', [1, 3, 5])
def test_tap_convolution_equals_the_convolution(kernel_size):
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, 5))
    kernel = jax.random.normal(jax.random.key(1), (kernel_size, kernel_size, 5, 3))
    padding = ((kernel_size // 2, kernel_size // 2),) * 2
    reference = functools.partial(_convolution, padding=padding)
    _assert_equal_with_gradients(tap_convolution, reference, x, kernel)
    program = jax.make_jaxpr(lambda x: convolution(x, kernel, 'SAME'))(x)
    names = {each.primitive.name for each in counting.equations(program.jaxpr)}
    assert 'conv_general_dilated' not in names


def test_inference_options_are_those_that_the_compiler_knows(monkeypatch):
    assert jax.jit(jnp.negative, compiler_options=inference_options())(1.0) == -1
    option = 'sicnn_jax.models.convolutions.compiler_options._YNNPACK'
    monkeypatch.setattr(option, 'xla_cpu_of_another_release')
    assert inference_options.__wrapped__() == {}


@pytest.mark.parametrize('sides', [(3, 3), (2, 3), (3, 2), (2, 2)])
@pytest.mark.parametrize('size', [(6, 8), (5, 7)])
@pytest.mark.parametrize('padding', _PADDINGS)
def test_winograd_convolution_equals_the_convolution(sides, size, padding):
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    kernel = jax.random.normal(jax.random.key(1), (*sides, 3, 4))
    fast = functools.partial(winograd_convolution, padding=padding)
    slow = functools.partial(_convolution, padding=padding)
    _assert_equal_with_gradients(lambda x, kernel: fast(x, kernel), slow, x, kernel)
    several = jax.vmap(lambda x: fast(x[None], kernel)[0])(x)
    np.testing.assert_allclose(several, fast(x, kernel), atol=1e-5)


@pytest.mark.parametrize('size', [(9, 11), (5, 4), (8, 8)])
@pytest.mark.parametrize('padding', _PADDINGS)
def test_winograd_convolution_in_larger_tiles_equals_the_convolution(size, padding):
    x = jax.random.normal(jax.random.key(0), (2, *size, 3)) / 3
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 4)) / 9

    def fast(x, kernel):
        return winograd_convolution(x, kernel, padding, 4)

    slow = functools.partial(_convolution, padding=padding)
    _assert_equal_with_gradients(fast, slow, x, kernel)


@pytest.mark.parametrize('sides', [(3, 3), (2, 3), (5, 5), (1, 1)])
@pytest.mark.parametrize('size', [(6, 8), (5, 7)])
@pytest.mark.parametrize('padding', _PADDINGS)
def test_patch_convolution_equals_the_convolution(sides, size, padding):
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    kernel = jax.random.normal(jax.random.key(1), (*sides, 3, 4))
    padding = padding if sides != (1, 1) else ((0, 0), (0, 0))

    def fast(x, kernel):
        return patch_convolution(x, kernel, padding)

    slow = functools.partial(_convolution, padding=padding)
    _assert_equal_with_gradients(fast, slow, x, kernel)


@pytest.mark.parametrize(
    ('shape', 'features', 'products'),
    [
        # A picture; few pixels beside a large kernel; many; very many.
        ((2, 12, 9, 3), 64, 1),
        ((2, 5, 4, 512), 512, 1),
        ((2, 12, 10, 256), 256, 16),
        ((8, 112, 96, 64), 64, 36),
    ],
)
def test_way_of_a_convolution_goes_by_its_shape(shape, features, products):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, shape[-1], features), jnp.float32)
    same = functools.partial(convolution, padding='SAME')
    program = jax.make_jaxpr(same)(x, kernel)
    names = [each.primitive.name for each in counting.equations(program.jaxpr)]
    assert names.count('dot_general') == products


@pytest.mark.parametrize('size', [(12, 9), (5, 4)])
@pytest.mark.parametrize('padding', [((0, 0), (0, 0)), ((1, 1), (1, 1))])
@pytest.mark.parametrize('reading', [0, 1_000_000])
def test_frozen_convolution_equals_the_convolution(size, padding, reading, monkeypatch):
    monkeypatch.setattr('sicnn_jax.models.convolutions.winograd._READING', reading)
    x = jax.random.normal(jax.random.key(0), (2, *size, 8))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 8, 4)) / 9

    def frozen(x, _):
        return frozen_convolution(x, kernel, padding)

    def reference(x, _):
        return _convolution(x, kernel, padding)

    _assert_equal_with_gradients(frozen, reference, x, kernel)


@pytest.mark.parametrize(
    ('function', 'side'),
    [(functools.partial(convolution, padding='SAME'), 3), (transposed_convolution, 5)],
)
def test_constant_kernels_are_transformed_while_tracing(function, side):
    x = jax.random.normal(jax.random.key(0), (1, 16, 12, 64))
    kernel = np.random.default_rng(0).normal(size=(side, side, 64, 64)) / 64
    kernel = jnp.float32(kernel)

    program = jax.make_jaxpr(lambda x: function(x, kernel))(x)
    equations = list(counting.equations(program.jaxpr))
    names = {equation.primitive.name for equation in equations}
    assert 'conv_general_dilated' not in names
    # What is computed has faces first; what is computed from the kernel, channels.
    shapes = [out.aval.shape for equation in equations for out in equation.outvars]
    assert shapes and all(shape[:1] == (1,) for shape in shapes if shape)

    np.testing.assert_allclose(
        jax.jit(lambda x: function(x, kernel))(x),
        jax.jit(function)(x, kernel),
        atol=1e-4,
    )


@pytest.mark.parametrize('sides', [(1, 1), (3, 3), (3, 2), (5, 5)])
@pytest.mark.parametrize('channels', [(3, 3), (3, 8), (64, 32)])
@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_every_way_of_a_convolution_is_the_convolution(sides, channels, padding, dtype):
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, channels[0]), dtype)
    kernel = jax.random.normal(jax.random.key(1), (*sides, *channels), dtype)
    fast = jax.jit(convolution, static_argnums=2)(x, kernel, padding)
    slow = jax.jit(_convolution, static_argnums=2)(x, kernel, padding)
    assert fast.dtype == dtype
    scale = float(jnp.abs(slow).max())
    np.testing.assert_allclose(
        fast.astype(float), slow.astype(float), atol=3e-6 * scale
    )


def test_oblong_kernels_to_few_features_have_gradients():
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, 5))
    kernel = jax.random.normal(jax.random.key(1), (3, 2, 5, 3))
    fast = functools.partial(convolution, padding='SAME')
    slow = functools.partial(_convolution, padding='SAME')
    _assert_equal_with_gradients(fast, slow, x, kernel)


def _convolution(x, kernel, padding):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def _assert_equal_with_gradients(fast, slow, x, kernel):
    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradients(function, x, kernel):
        def loss(x, kernel):
            y = function(x, kernel)
            return jnp.sum(jnp.sin(y)), y

        gradients, y = jax.grad(loss, (0, 1), has_aux=True)(x, kernel)
        return y, *gradients

    for ours, theirs in zip(
        value_and_gradients(fast, x, kernel),
        value_and_gradients(slow, x, kernel),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
