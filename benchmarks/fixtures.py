"""Writes tests/models/parity.npz: the results of the PyTorch twins of narrow networks.

    pip install torch
    python -m benchmarks.fixtures

tests/models/test_parity.py compares our networks and A-Softmax with it, without
PyTorch. Parameters (in our layout), inputs and labels are drawn from a seed;
benchmarks/pytorch_twin.py computes outputs, losses and gradients in float64. The loss
of a network is the product of its output with fixed weights, so that it and its
gradient with respect to the input depend on every pixel. Of outputs and gradients, the
file holds every fifth row and column.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from flax import traverse_util

from benchmarks import pytorch_twin
from benchmarks.measuring import markdown
from sicnn_jax import models

_OUT = Path(__file__).parent.parent / 'tests' / 'models' / 'parity.npz'
# An odd number, so that all positions occur that strides of 2, 4 and 8 distinguish.
_STRIDE = 5
_FACES = 2

# Sizes of our network and of its twin.
_CNNR = {'widths': (4, 6, 8, 10), 'depths': (1, 2, 1, 1), 'feature_dim': 8}
_CNNH = {'width': 6, 'growth': 4, 'depth': 2, 'deconv_width': 8}


def network_fixture(name: str, model: Any, load: Callable, seed: int) -> dict:
    """Parameters, input, output, loss and gradient of a network, by name."""
    size = (112, 96) if name == 'cnnr' else models.LR_SHAPES[model.scale]
    rng = np.random.default_rng(seed)
    faces = rng.integers(0, 256, (_FACES, *size, 3), dtype=np.uint8)
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jax.ShapeDtypeStruct(faces.shape, 'float32')
    )
    params = traverse_util.path_aware_map(
        lambda path, shape: _draw(rng, path[-1], shape.shape), shapes['params']
    )
    x = pytorch_twin.to_twin((faces.astype(np.float64) - 127.5) / 128).cpu()
    x.requires_grad_()
    y = load(params).double()(x)
    if y.ndim == 4:
        y = y.permute(0, 2, 3, 1)
    loss = (y * torch.from_numpy(_weights(tuple(y.shape)))).sum()
    (gradient,) = torch.autograd.grad(loss, x)
    return {
        **{
            f'{name}/params/{path}': value
            for path, value in traverse_util.flatten_dict(params, sep='/').items()
        },
        f'{name}/faces': faces,
        f'{name}/output': _thin(y.detach().numpy()),
        f'{name}/loss': np.float64(loss.item()),
        f'{name}/gradient': _thin(gradient.permute(0, 2, 3, 1).numpy()),
    }


def _weights(shape: tuple[int, ...]) -> np.ndarray:
    """Weights of a network's output in its loss: sines without a period."""
    return np.sin(np.arange(np.prod(shape), dtype=np.float64)).reshape(shape)


def a_softmax_fixture(annealing: float, seed: int) -> dict:
    """Loss and gradients of A-Softmax on a few features, by name."""
    rng = np.random.default_rng(seed)
    given = {
        'features': rng.normal(size=(12, 6)).astype(np.float32),
        'class_weights': rng.normal(size=(6, 9)).astype(np.float32),
    }
    labels = rng.integers(0, 9, 12, dtype=np.int32)
    tensors = [
        torch.tensor(array, dtype=torch.float64, requires_grad=True)
        for array in given.values()
    ]
    loss = pytorch_twin.a_softmax_loss(
        *tensors, torch.from_numpy(labels.astype(np.int64)), annealing
    )
    gradients = torch.autograd.grad(loss, tensors)
    found = {
        **given,
        'labels': labels,
        'annealing': np.float64(annealing),
        'loss': np.float64(loss.item()),
        'features_gradient': gradients[0].numpy().astype(np.float32),
        'class_weights_gradient': gradients[1].numpy().astype(np.float32),
    }
    return {f'a_softmax_{annealing:g}/{name}': value for name, value in found.items()}


def _draw(rng, kind, shape):
    if kind == 'slope':
        return rng.uniform(0.1, 0.5, shape).astype(np.float32)
    scale = np.prod(shape[:-1]) ** -0.5 if kind == 'kernel' else 0.1
    return (scale * rng.normal(size=shape)).astype(np.float32)


def _thin(array):
    if array.ndim == 4:
        array = array[:, ::_STRIDE, ::_STRIDE]
    return array.astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=_OUT)
    arguments = parser.parse_args()
    groups = {
        'cnnr': network_fixture(
            'cnnr',
            models.CNNR(**_CNNR),
            lambda params: pytorch_twin.load_cnnr(params, **_CNNR),
            seed=0,
        )
    }
    for scale, kernels in ((8, (3, 5, 5)), (4, (5, 5))):
        groups[f'cnnh_{scale}x'] = network_fixture(
            f'cnnh_{scale}x',
            models.CNNH(scale=scale, **_CNNH),
            lambda params, kernels=kernels: pytorch_twin.load_cnnh(
                params, kernels=kernels, **_CNNH
            ),
            seed=scale,
        )
    for annealing in (0.0, 5.0):
        groups[f'a_softmax_{annealing:g}'] = a_softmax_fixture(annealing, seed=1)
    arrays = {name: value for group in groups.values() for name, value in group.items()}
    np.savez_compressed(arguments.out, **arrays)
    rows = [
        (name, [f'{len(group)}', f'{group[f"{name}/loss"]:.6f}'])
        for name, group in groups.items()
    ]
    print(markdown(('arrays', 'loss'), rows, 'fixture'))
    print(f'{arguments.out}: {arguments.out.stat().st_size / 1000:.0f} KB')


if __name__ == '__main__':
    main()
