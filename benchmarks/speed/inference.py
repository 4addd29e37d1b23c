"""Times CNNH's forward pass: ours, PyTorch as it is and compiled, and ONNX Runtime.

    pip install -e '.[bench]'
    python -m benchmarks.speed.inference --batches=1,256 --scales=8,4 --rounds=5

All contenders have the paper's widths in float32, and the same weights and faces; their
pictures must agree to 1e-3 before anything is timed. Each has its own process and all
cores; they take turns. Ours and torch.compile have the weights as constants, as
inference allows (ours like `Hallucinator`, by `inference.frozen`); ONNX Runtime runs
the export of the PyTorch twin. Large batches are not fed whole: on a CPU, small pieces
stay in the caches, and 256 faces at once would take about 11 GiB. So each contender
takes a batch in pieces of the size that was its fastest in a trial, one of --pieces.
The time to export and compile is reported separately.
"""

import argparse
import functools
import logging
import os
import statistics
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.pool import Pool
from typing import Any

import jax
import numpy as np

from benchmarks.measuring import append_record, in_turns, markdown, time_calls, versions
from benchmarks.speed.reading import render
from sicnn_jax import images, inference, models
from sicnn_jax.models import convolutions

SIDES = ('ours', 'pytorch', 'pytorch_compiled', 'onnxruntime')
# Kernel sizes of the deconvolutions, see `CNNH.deconv_kernels`.
_KERNELS = {8: (3, 5, 5), 4: (5, 5)}
_TOLERANCE = 1e-3
# The number of different faces; a larger batch repeats them.
_FACES = 64

# In a contender's process: its networks, by the size of the pieces that they take.
_networks = {}
_lr = None


def draw(scale: int) -> tuple[Any, np.ndarray]:
    """Parameters of CNNH, initialised on faces, and these faces in low resolution."""
    hr = render(_FACES)
    lr = images.to_float(inference.degrade_faces(hr, scale=scale, kind='bicubic'))
    variables = jax.jit(models.CNNH(scale=scale).init)(jax.random.key(0), lr[:8])
    return jax.tree.map(np.asarray, (variables['params'], lr))


def set_up(
    side: str, scale: int, params: Any, lr: np.ndarray, piece: int
) -> tuple[np.ndarray, float, float]:
    """Builds a contender for pieces of one size in this process.

    Returns:
      Pictures of the first faces [piece, 112, 96, 3], seconds to build and run it for
      the first time, and seconds of a later call.
    """
    global _lr
    start = time.perf_counter()
    _networks[piece] = {
        'ours': _ours,
        'pytorch': _pytorch,
        'pytorch_compiled': _pytorch_compiled,
        'onnxruntime': _onnxruntime,
    }[side](scale, params, lr[:piece])
    _lr = lr if side == 'ours' else np.ascontiguousarray(lr.transpose(0, 3, 1, 2))
    sr = _forward(piece, piece)
    first = time.perf_counter() - start
    again = min(time_calls(lambda: _forward(piece, piece), 2))
    sr = sr if side == 'ours' else sr.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(sr), first, again


def time_batches(batch: int, piece: int, calls: int) -> list[float]:
    """Seconds of each batch, after an untimed piece."""
    _forward(piece, piece)
    return time_calls(lambda: _forward(batch, piece), calls)


def _forward(batch, piece):
    """Pictures of the last piece of a batch."""
    for start in range(0, batch, piece):
        first = start % len(_lr)
        sr = _networks[piece](_lr[first : first + piece])
    return sr


def _ours(scale, params, lr):
    variables = {'params': jax.device_put(params)}
    apply = jax.jit(
        lambda lr: models.CNNH(scale=scale).apply(variables, lr),
        compiler_options=convolutions.inference_options(),
    )
    return lambda lr: np.asarray(apply(lr))


def _twin(scale, params):
    # Compile in this process: a worker of a pool must not have children.
    os.environ['TORCHINDUCTOR_COMPILE_THREADS'] = '1'
    import torch

    from benchmarks import pytorch_twin

    torch.set_num_threads(os.cpu_count())
    return pytorch_twin.load_cnnh(params, kernels=_KERNELS[scale]).eval()


def _pytorch(scale, params, lr):
    return _torch_caller(_twin(scale, params))


def _pytorch_compiled(scale, params, lr):
    network = _twin(scale, params)
    import torch
    from torch._inductor import config

    config.freezing = True
    return _torch_caller(torch.compile(network, dynamic=False))


def _torch_caller(network):
    import torch

    def forward(lr):
        # inference_mode would keep torch.compile from freezing.
        with torch.no_grad():
            lr = torch.from_numpy(lr).to(memory_format=torch.channels_last)
            return network(lr).numpy()

    return forward


def _onnxruntime(scale, params, lr):
    network = _twin(scale, params)
    import onnxruntime
    import torch

    # It warns about torchvision's operators, which are not used here.
    logging.getLogger('torch.onnx').setLevel(logging.ERROR)
    example = torch.from_numpy(np.ascontiguousarray(lr.transpose(0, 3, 1, 2)))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    with tempfile.TemporaryDirectory() as directory:
        path = f'{directory}/cnnh.onnx'
        torch.onnx.export(network, (example,), path, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(path, options)
    (given,) = session.get_inputs()
    return lambda lr: session.run(None, {given.name: lr})[0]


def build(
    pools: dict[str, Pool], scale: int, pieces: list[int]
) -> dict[str, dict[int, tuple[float, float]]]:
    """Builds all contenders for all pieces.

    Returns:
      By side and piece: seconds to build, seconds per face.

    Raises:
      AssertionError: a contender's pictures differ from ours.
    """
    params, lr = draw(scale)
    built = {side: {} for side in pools}
    for piece in pieces:
        expected = None
        for side, pool in pools.items():
            sr, first, again = pool.apply(set_up, (side, scale, params, lr, piece))
            expected = sr if expected is None else expected
            np.testing.assert_allclose(
                sr, expected, rtol=0, atol=_TOLERANCE, err_msg=side
            )
            built[side][piece] = first - again, again / piece
    return built


def compare(
    pools: dict[str, Pool], built: dict, batch: int, rounds: int, calls: int
) -> dict[str, dict]:
    """Times a batch with all contenders in turn; returns the measurements by side."""
    pieces = {
        side: min(
            (piece for piece in of_side if batch % piece == 0),
            key=lambda piece, of_side=of_side: of_side[piece][1],
        )
        for side, of_side in built.items()
    }
    timers = {
        side: functools.partial(pool.apply, time_batches, (batch, pieces[side], calls))
        for side, pool in pools.items()
    }
    seconds = in_turns(timers, rounds)
    ours, *_ = seconds.values()
    return {
        side: {
            'piece': pieces[side],
            'seconds': statistics.median(times),
            'times_ours': statistics.median(np.divide(times, ours).tolist()),
            'compile_seconds': built[side][pieces[side]][0],
        }
        for side, times in seconds.items()
    }


def _rows(scale, batch, measured):
    return [
        (
            f'{scale}×, batch {batch}, {side}',
            [
                f'{found["piece"]}',
                f'{1e3 * found["seconds"]:,.0f} ms',
                f'{batch / found["seconds"]:.2f}',
                f'{found["times_ours"]:.2f}',
                f'{found["compile_seconds"]:.0f} s',
            ],
        )
        for side, found in measured.items()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--batches', default='1,256')
    parser.add_argument('--pieces', default='1,8,64', help=f'up to {_FACES}')
    parser.add_argument('--scales', default='8,4')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--calls', type=int, default=1, help='per round')
    arguments = parser.parse_args()
    batches = [int(batch) for batch in arguments.batches.split(',')]
    pieces = [int(piece) for piece in arguments.pieces.split(',')]
    rows = []
    for scale in map(int, arguments.scales.split(',')):
        pools = {side: get_context('spawn').Pool(1) for side in SIDES}
        try:
            built = build(pools, scale, pieces)
            for batch in batches:
                measured = compare(
                    pools, built, batch, arguments.rounds, arguments.calls
                )
                record = {
                    'scale': scale,
                    'batch': batch,
                    'dtype': 'float32',
                    'rounds': arguments.rounds,
                    'threads': os.cpu_count(),
                    'glibc_tunables': os.environ.get('GLIBC_TUNABLES', ''),
                    'sides': measured,
                    'seconds_a_face_by_piece': {
                        side: {piece: face for piece, (_, face) in of_side.items()}
                        for side, of_side in built.items()
                    },
                    **versions('torch', 'onnx', 'onnxscript', 'onnxruntime'),
                }
                append_record('inference', record)
                rows += _rows(scale, batch, measured)
        finally:
            for pool in pools.values():
                pool.terminate()
    columns = ('piece', 'per batch', 'faces/s', '× ours', 'compilation')
    print(markdown(columns, rows, 'CNNH'))


if __name__ == '__main__':
    main()
