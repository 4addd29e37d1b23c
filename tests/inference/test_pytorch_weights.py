"""Weights from PyTorch compute here what they compute there."""

import functools
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from sicnn_jax import images, models
from sicnn_jax import pytorch_weights as command
from sicnn_jax.inference import Hallucinator, pytorch_weights
from sicnn_jax.inference.pytorch_weights import WeightsError
from sicnn_jax.models.layers import average_pool

RNG = np.random.default_rng(0)


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, x):
    return model.apply({'params': params}, x)


def draw(*shape):
    return RNG.normal(0, 0.2, shape).astype(np.float32)


class Theirs:
    """A network as PyTorch computes it, whose weights are drawn as it goes.

    Channels first; its state dict grows beside.
    """

    def __init__(self):
        self.state = {}

    def keep(self, name, **arrays):
        self.state |= {f'{name}.{kind}': array for kind, array in arrays.items()}

    def conv(self, name, x, out, k=3, padding=None):
        weight, bias = draw(out, x.shape[1], k, k), draw(out)
        self.keep(name, weight=weight, bias=bias)
        padding = k // 2 if padding is None else padding
        x = np.pad(x, ((0, 0), (0, 0), *[(padding, padding)] * 2))
        windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), (2, 3))
        y = np.tensordot(windows, weight, ((1, 4, 5), (1, 2, 3)))
        return y.transpose(0, 3, 1, 2) + bias[:, None, None]

    def deconv(self, name, x, out, k, padding):
        """ConvTranspose2d by its definition: every pixel scatters the kernel."""
        weight, bias = draw(x.shape[1], out, k, k), draw(out)
        self.keep(name, weight=weight, bias=bias)
        n, _, h, w = x.shape
        whole = np.zeros((n, out, 2 * h + 2 * k, 2 * w + 2 * k), np.float32)
        for row in range(k):
            for column in range(k):
                part = np.einsum('nihw,io->nohw', x, weight[..., row, column])
                rows = slice(row, row + 2 * h, 2)
                whole[:, :, rows, column : column + 2 * w : 2] += part
        inner = whole[:, :, padding : padding + 2 * h, padding : padding + 2 * w]
        return inner + bias[:, None, None]

    def prelu(self, name, x):
        slope = draw(x.shape[1])
        self.keep(name, weight=slope)
        return np.where(x > 0, x, x * slope[:, None, None])


def their_cnnh(theirs, lr, kernels, deconv, widths=(4, 4, 4, 4)):
    """Faces [n, 3, h, w] → [n, 3, 112, 96]; widths are those of each resolution."""
    x = lr[..., ::-1, ::-1] if deconv == 'mirrored' else lr
    x = theirs.prelu('stem_prelu', theirs.conv('stem', x, widths[-len(kernels) - 1]))

    def dense_block(x, name, depth):
        for layer in range(1, depth + 1):
            y = theirs.conv(f'{name}.conv{layer}', x, 3)
            y = theirs.prelu(f'{name}.prelu{layer}', y)
            x = np.concatenate([x, y], 1)
        return x

    for stage, k in zip((1, 2, 3)[-len(kernels) :], kernels, strict=True):
        x = dense_block(x, f'dense_block{stage}', 2)
        x = theirs.deconv(f'deconv{stage}', x, 6, k, (k - 1) // 2)
        x = theirs.prelu(f'deconv_prelu{stage}', x)
        x = theirs.conv(f'mapping{stage}', x, widths[stage], k=1)
        x = theirs.prelu(f'mapping_prelu{stage}', x)
    x = dense_block(x, 'dense_block_final', 1)
    x = np.tanh(theirs.conv('reconstruction', x, 3, k=5))
    return x[..., ::-1, ::-1] if deconv == 'mirrored' else x


@pytest.mark.parametrize(
    ('deconv', 'kernels', 'ours'),
    [
        ('output_padding', (3, 4, 5), [5, 4, 7]),
        ('output_padding', (2, 3), [3, 2, 5]),
        ('mirrored', (4, 2, 6), [4, 2, 6]),
        ('mirrored', (3, 5), [3, 3, 5]),
    ],
)
def test_cnnh(deconv, kernels, ours):
    theirs = Theirs()
    scale = 2 ** len(kernels)
    lr = draw(2, *models.LR_SHAPES[scale], 3)
    expected = their_cnnh(theirs, lr.transpose(0, 3, 1, 2), kernels, deconv)
    assert np.std(expected) > 0.05
    params, found, sizes = pytorch_weights.convert_cnnh(theirs.state, deconv=deconv)
    assert (found, sizes['deconv_kernels']) == (scale, ours)
    assert (sizes['depth'], sizes['final_depth']) == (2, 1)
    sr = apply(
        models.cnnh_from({'scale': scale, 'models': {'cnnh': sizes}}), params, lr
    )
    np.testing.assert_allclose(sr, np.transpose(expected, (0, 2, 3, 1)), atol=1e-5)


@pytest.mark.parametrize('kernels', [(4, 4, 4), (4, 4)])
def test_cnnh_of_other_sizes_at_each_stage(kernels):
    theirs = Theirs()
    scale = 2 ** len(kernels)
    lr = draw(2, *models.LR_SHAPES[scale], 3)
    widths = (7, 6, 5, 4)
    expected = their_cnnh(
        theirs, lr.transpose(0, 3, 1, 2), kernels, 'output_padding', widths
    )
    params, _, sizes = pytorch_weights.convert_cnnh(theirs.state)
    # Of what the 4× network lacks, the next stands in.
    assert sizes['width'] == [*(widths if scale == 8 else (6, 6, 5, 4))]
    assert (sizes['growth'], sizes['deconv_width']) == (3, 6)
    sr = apply(
        models.cnnh_from({'scale': scale, 'models': {'cnnh': sizes}}), params, lr
    )
    np.testing.assert_allclose(sr, np.transpose(expected, (0, 2, 3, 1)), atol=1e-5)


def their_cnnr(theirs, x, widths, depths):
    for level, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
        for suffix in ('1a', '1b') if level == 1 else (level,):
            x = theirs.conv(f'conv{suffix}', x, width, padding=0)
            x = theirs.prelu(f'prelu{suffix}', x)
        x = np.array(average_pool(x.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
        for block in range(1, depth + 1):
            y, name = x, f'block{level}_{block}'
            for index in (1, 2):
                y = theirs.conv(f'{name}.conv{index}', y, width)
                y = theirs.prelu(f'{name}.prelu{index}', y)
            x = x + y
    x = x.reshape(len(x), -1)
    weight, bias = draw(8, x.shape[1]), draw(8)
    theirs.keep('fc1', weight=weight, bias=bias)
    return x @ weight.T + bias


def test_cnnr():
    widths, depths = [4, 4, 5, 6], [1, 0, 2, 1]
    theirs = Theirs()
    faces = draw(1, 112, 96, 3)
    expected = their_cnnr(theirs, faces.transpose(0, 3, 1, 2), widths, depths)
    params, sizes = pytorch_weights.convert_cnnr(theirs.state)
    assert sizes == {'widths': widths, 'depths': depths, 'feature_dim': 8}
    features = apply(models.cnnr_from({'models': {'cnnr': sizes}}), params, faces)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope='module')
def state():
    theirs = Theirs()
    their_cnnh(theirs, draw(1, 3, 14, 12), (3, 3, 3), 'output_padding')
    return theirs.state


def test_the_command_writes_a_stage_that_hallucinates(state, tmp_path, capsys):
    path = tmp_path / 'cnnh.safetensors'
    save_file({f'module.{name}': array for name, array in state.items()}, path)
    out = tmp_path / 'stage'
    arguments = [f'--weights={path}', '--network=cnnh', f'--out={out}']
    assert command.main(arguments) == 0
    assert "'growth': 3" in capsys.readouterr().out
    params, _, sizes = pytorch_weights.convert_cnnh(state)
    lr = np.full((1, 14, 12, 3), 99, np.uint8)
    sr = apply(
        models.cnnh_from({'scale': 8, 'models': {'cnnh': sizes}}),
        params,
        images.to_float(lr),
    )
    np.testing.assert_allclose(
        Hallucinator(out)(lr).astype(int), images.to_levels(sr), atol=1
    )
    assert command.main(arguments) == 1
    assert 'choose another --out' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s.pop('mapping2.weight'), 'mapping2'),
        (lambda s: s.pop('deconv1.bias'), 'deconv1 has no bias'),
        (lambda s: s.pop('stem_prelu.weight'), 'stem_prelu/slope has the shape None'),
        (
            lambda s: s.update({'mapping2.weight': draw(5, 6, 1, 1)}),
            r'mapping2/kernel has the shape \(1, 1, 6, 5\); expected \(1, 1, 6, 4\)',
        ),
        (
            lambda s: s.update({'bn.running_mean': draw(3)}),
            'bn.running_mean is neither',
        ),
    ],
)
def test_what_does_not_fit_is_named(state, change, message):
    state = dict(state)
    change(state)
    with pytest.raises(WeightsError, match=message):
        pytorch_weights.convert_cnnh(state)


def test_files_that_are_none(tmp_path):
    with pytest.raises(WeightsError, match='is missing'):
        pytorch_weights.read_state_dict(tmp_path / 'x.safetensors')
    (tmp_path / 'x.safetensors').write_text('no')
    with pytest.raises(WeightsError, match='cannot be read'):
        pytorch_weights.read_state_dict(tmp_path / 'x.safetensors')


def test_pickles_are_read_as_weights_only(state, tmp_path, monkeypatch):
    """What `torch.save` wrote, by a stand-in that knows what a tensor can do."""

    class Tensor(SimpleNamespace):
        def float(self):
            return self

        def numpy(self):
            return self.array

    def load(path, *, map_location, weights_only):
        assert weights_only and map_location == 'cpu'
        tensors = {name: Tensor(array=array) for name, array in state.items()}
        return {'epoch': 3, 'state_dict': tensors}

    monkeypatch.setitem(sys.modules, 'torch', SimpleNamespace(load=load))
    path = tmp_path / 'cnnh.pt'
    path.touch()
    assert pytorch_weights.read_state_dict(path).keys() == state.keys()
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(WeightsError, match='pip install torch, or save the weights'):
        pytorch_weights.read_state_dict(path)
