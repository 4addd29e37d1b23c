"""The weights of a CNNH or CNNR that was trained in PyTorch, as a finished stage."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from sicnn_jax import checkpoint, images, models, paths

__all__ = [
    'DECONVS',
    'NETWORKS',
    'Layers',
    'WeightsError',
    'convert_cnnh',
    'convert_cnnr',
    'deconv_kernel',
    'import_weights',
    'read_state_dict',
]

NETWORKS = ('cnnh', 'cnnr')
# The kinds of ConvTranspose2d in the PyTorch network, see `deconv_kernel`.
DECONVS = ('output_padding', 'mirrored')

# What wrappers put before the names of a network.
_PREFIXES = re.compile(r'^(module\.|_orig_mod\.)+')
# Rows and columns of the last features of CNNR.
_LAST = (5, 4)

Layers = Mapping[str, Mapping[str, np.ndarray]]


class WeightsError(ValueError):
    """The file is not a state dict of such a network."""


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a state dict by name, without the prefixes of wrappers.

    Args:
      path: of a `.safetensors` file, or of a file written by `torch.save`: a state
        dict, or a dict with one as 'state_dict' or 'model'.

    Raises:
      WeightsError: the file is missing or neither, or PyTorch is not installed.
    """
    if not path.is_file():
        raise WeightsError(f'{path} is missing: expected a state dict.')
    try:
        state = load_file(path) if path.suffix == '.safetensors' else _unpickle(path)
    except ImportError as error:
        raise WeightsError(
            f'{path} needs PyTorch to be read: pip install torch, or save the weights '
            'by safetensors.torch.save_file.'
        ) from error
    # Damaged files raise many kinds of error.
    except Exception as error:
        raise WeightsError(f'{path} cannot be read: {error}') from error
    return {_PREFIXES.sub('', name): array for name, array in state.items()}


def convert_cnnh(
    state: Mapping[str, np.ndarray], *, deconv: str = 'output_padding'
) -> tuple[dict[str, Any], int, dict[str, Any]]:
    """Parameters of CNNH from those of a PyTorch network.

    Args:
      state: from `read_state_dict`.
      deconv: one of `DECONVS`.

    Returns:
      Parameters, scale and sizes (fields of `models.CNNH`).

    Raises:
      WeightsError: a layer is missing or superfluous, or does not fit the shapes of the
        others.
    """
    modules = _modules(state)
    params = {name: _layer(name, layer, deconv) for name, layer in modules.items()}
    numbers = sorted(
        int(each[-1]) for each in params if re.fullmatch(r'deconv\d', each)
    )
    if numbers not in ([1, 2, 3], [2, 3]):
        raise WeightsError(
            f'The network has the deconvolutions {numbers}; expected 1, 2 and 3 '
            '(8×), or 2 and 3 (4×).'
        )
    scale = 2 ** len(numbers)
    sizes = _cnnh_sizes(params, numbers)
    model = models.cnnh_from({'scale': scale, 'models': {'cnnh': sizes}})
    return _checked(params, model, models.LR_SHAPES[scale]), scale, sizes


def _cnnh_sizes(params, numbers):
    """Fields of `models.CNNH`, from the stages that the network has."""
    blocks = [*(f'dense_block{stage}' for stage in numbers), 'dense_block_final']
    *depths, final_depth = (_count(params, rf'{block}/conv\d+') for block in blocks)
    # The 4× network has no first deconvolution; the paper's kernel size stands for it.
    kernels = {stage: len(params[f'deconv{stage}']['kernel']) for stage in numbers}
    several = {
        'width': ['stem', *(f'mapping{stage}' for stage in numbers)],
        'growth': [f'{block}/conv1' for block in blocks],
        'deconv_width': [f'deconv{stage}' for stage in numbers],
    }
    sizes = {
        field: _one_or_several([_features(params, name) for name in names], field)
        for field, names in several.items()
    }
    return sizes | {
        'depth': _one_or_several(depths, 'depth'),
        'deconv_kernels': [kernels.get(stage, 3) for stage in (1, 2, 3)],
        'final_depth': final_depth,
    }


def _one_or_several(sizes, field):
    """Sizes in the form that `models.CNNH` takes: one number if all are equal."""
    if len(set(sizes)) == 1:
        return sizes[0]
    # The size of a stage that the 4× network lacks has no effect.
    return [sizes[0]] * (models.CNNH_SIZES[field] - len(sizes)) + sizes


def convert_cnnr(
    state: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters of CNNR and its sizes, fields of `models.CNNR`, as `convert_cnnh`."""
    params = {name: _layer(name, layer) for name, layer in _modules(state).items()}
    levels = (1, 2, 3, 4)
    sizes = {
        'widths': [
            _features(params, f'conv{level}', f'conv{level}a') for level in levels
        ],
        'depths': [_count(params, rf'block{level}_\d+/conv1') for level in levels],
        'feature_dim': _features(params, 'fc1'),
    }
    model = models.cnnr_from({'models': {'cnnr': sizes}})
    return _checked(params, model, (images.HEIGHT, images.WIDTH)), sizes


def deconv_kernel(weight: np.ndarray) -> np.ndarray:
    """The kernel that makes `models.layers.Deconv` equal a ConvTranspose2d of stride 2.

    Args:
      weight: of the ConvTranspose2d, [in, out, k, k]; its padding is (k − 1) // 2, and
        only the first 2h × 2w of its output are kept.

    Returns:
      [K, K, in, out], turned by 180°. If k is odd, PyTorch's kernel lies one pixel off
      ours, so K is k + 2, with zeros at the beginning.
    """
    margin = (2 * (weight.shape[-1] % 2), 0)
    turned = weight[..., ::-1, ::-1].transpose(2, 3, 0, 1)
    return np.pad(turned, (margin, margin, (0, 0), (0, 0)))


def _unpickle(path):
    import torch

    state = torch.load(path, map_location='cpu', weights_only=True)
    for key in ('state_dict', 'model'):
        state = state.get(key, state)
    return {name: tensor.float().numpy() for name, tensor in state.items()}


def _modules(state: Mapping[str, np.ndarray]) -> Layers:
    """Weight and bias of each module, by our name for it."""
    modules: dict[str, dict[str, np.ndarray]] = {}
    for name, array in state.items():
        module, _, kind = name.rpartition('.')
        if kind not in ('weight', 'bias') or not module:
            raise WeightsError(
                f'{name} is neither a weight nor a bias; expected the state dict of a '
                'network of convolutions, PReLUs and one linear layer (docs/export.md).'
            )
        modules.setdefault(module.replace('.', '/'), {})[kind] = array
    for module, arrays in modules.items():
        if 'weight' not in arrays:
            raise WeightsError(f'{module} has a bias but no weight; expected both.')
    return modules


def _layer(name, layer, deconv='output_padding'):
    """A layer's parameters in our layout."""
    weight = np.asarray(layer['weight'], np.float32)
    if weight.ndim == 1:
        return {'slope': weight}
    if 'bias' not in layer:
        raise WeightsError(f'{name} has no bias; expected one in every layer.')
    mirrored = deconv == 'mirrored'
    if 'deconv' in name:
        kernel = weight.transpose(2, 3, 0, 1) if mirrored else deconv_kernel(weight)
    elif weight.ndim == 4:
        kernel = weight.transpose(2, 3, 1, 0)
        kernel = kernel[::-1, ::-1] if mirrored else kernel
    else:
        # PyTorch flattens features as (channel, row, column); here channels come last.
        features, size = weight.shape
        pixels = math.prod(_LAST)
        if size % pixels:
            raise WeightsError(
                f'{name} takes {size} numbers; expected a multiple of 5 · 4.'
            )
        kernel = weight.reshape(features, size // pixels, *_LAST).transpose(2, 3, 1, 0)
        kernel = kernel.reshape(size, features)
    return {'kernel': kernel, 'bias': np.asarray(layer['bias'], np.float32)}


def _count(params, pattern):
    return sum(bool(re.fullmatch(pattern, name)) for name in params)


def _features(params, *names):
    for name in names:
        if name in params:
            return len(params[name]['bias'])
    raise WeightsError(
        f'There is no layer {names[0]}; found: {", ".join(params) or "none"}.'
    )


def _checked(params, model, shape):
    """Nested parameters, checked to have the model's names and shapes."""
    flat = {
        f'{name}/{kind}': np.ascontiguousarray(array)
        for name, layer in params.items()
        for kind, array in layer.items()
    }
    inputs = jnp.zeros((1, *shape, 3))
    expected = jax.eval_shape(model.init, jax.random.key(0), inputs)['params']
    expected = flax.traverse_util.flatten_dict(expected, sep='/')
    wanted = {name: leaf.shape for name, leaf in expected.items()}
    found = {name: array.shape for name, array in flat.items()}
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            raise WeightsError(
                f'{name} has the shape {found.get(name)}; expected {wanted.get(name)} '
                'to fit the other layers (docs/export.md has the layout).'
            )
    return flax.traverse_util.unflatten_dict(flat, sep='/')


def import_weights(
    weights: Path,
    network: str,
    out: Path,
    *,
    deconv: str = 'output_padding',
    degradation: str = 'bicubic',
    dtype: str = 'float32',
) -> dict[str, Any]:
    """Writes a finished stage with the weights of a PyTorch network.

    Args:
      weights: the file, as in `read_state_dict`.
      network: one of `NETWORKS`.
      out: directory of the stage.
      deconv: one of `DECONVS`.
      degradation: one of `images.DEGRADATIONS`, with which CNNH was trained.
      dtype: in which the network computes; a config that starts from it must have the
        same one.

    Returns:
      The record of the checkpoint.

    Raises:
      WeightsError: the weights are not of such a network.
      FileExistsError: `out` has networks already.
    """
    weights, out = paths.local(weights), paths.local(out)
    if checkpoint.has_networks(out):
        raise FileExistsError(f'{out} has networks already: choose another --out.')
    state, scale = read_state_dict(weights), 8
    if network == 'cnnh':
        params, scale, sizes = convert_cnnh(state, deconv=deconv)
    else:
        params, sizes = convert_cnnr(state)
    settings = {'init_std': 1.0, 'dtype': dtype, 'param_dtype': 'float32'}
    record = {
        'convention': images.CONVENTION,
        'scale': scale,
        'degradation': degradation,
        'models': {network: sizes | settings},
    }
    checkpoint.save_networks(out, {network: params}, record)
    return record
