"""Depthwise convolutions of ONNX networks on one CPU core: XLA or shifted products?

    python -m benchmarks.studies.depthwise --faces=16 --rounds=3

The command prints the milliseconds of 3×3 convolutions, which `jax.vmap` maps over a
batch, and of their gradient with respect to the faces. On a CPU,
`sicnn_jax/onnx/windows.py` uses shifted products.
"""

import argparse
import functools
import os
import statistics

# Set before JAX starts, to give it one thread.
os.environ['XLA_FLAGS'] = (
    '--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1'
)

import jax
import jax.numpy as jnp

from benchmarks.measuring import append_record, in_turns, markdown, time_calls
from sicnn_jax.onnx.windows import shifted_products

_MARGINS = ((1, 1), (1, 1))
_SIZES = ((64, 56, 48), (128, 56, 48), (128, 28, 24), (128, 14, 12))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--faces', type=int, default=16)
    parser.add_argument('--rounds', type=int, default=3)
    options = parser.parse_args()
    columns, rows = None, []
    for shape in _SIZES:
        for stride in (1, 2):
            medians = in_turns(_timers(options.faces, shape, stride), options.rounds)
            found = {
                name: 1000 * statistics.median(values)
                for name, values in medians.items()
            }
            columns = tuple(found)
            channels, height, width = shape
            name = f'{channels} × {height}×{width}, stride {stride}'
            rows.append((name, [f'{value:.1f}' for value in found.values()]))
            record = {'shape': shape, 'stride': stride, 'milliseconds': found}
            append_record('depthwise', record | {'faces': options.faces})
    print(markdown(columns, rows, first=f'{options.faces} faces of'))


def _timers(faces, shape, stride):
    x = jax.random.normal(jax.random.key(0), (faces, *shape))
    kernel = jax.random.normal(jax.random.key(1), (shape[0], 1, 3, 3))
    timers = {}
    for name, way in (('XLA', _direct), ('products', _shifted)):
        run = jax.vmap(lambda x, way=way: way(x[None], kernel, stride)[0])
        gradient = jax.grad(lambda x, run=run: jnp.sum(run(x) ** 2))
        for kind, function in (('', run), (', gradient', gradient)):
            call = functools.partial(jax.jit(function), x)
            time_calls(call, 1)
            timers[name + kind] = functools.partial(time_calls, call, 5)
    return timers


def _direct(x, kernel, stride):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), _MARGINS, feature_group_count=len(kernel)
    )


def _shifted(x, kernel, stride):
    return shifted_products(x, kernel, (stride, stride), (1, 1), _MARGINS)


if __name__ == '__main__':
    main()
