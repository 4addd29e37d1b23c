"""The judge: a recognition network that no hallucination training ever touched.

The identity similarity of the paper is measured by the network that CNNH, or its
loss, was trained with or against; a judge of another seed and other identities tells
whether what it sees is there. One for the procedural faces ships with the package;
`python -m sicnn_jax.metrics.judge` packs a trained recognition stage as such a file.
"""

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from sicnn_jax import checkpoint
from sicnn_jax.models import CNNR, cnnr_from

PACKAGED = Path(__file__).with_name('judge.safetensors')

# Below this accuracy on originals of unseen people a judge judges nothing.
LEAST_ACCURACY = 0.9


@dataclasses.dataclass(frozen=True)
class Judge:
    """A recognition network with its parameters.

    Attributes:
      name: where it came from.
      cnnr: the network.
      params: its parameters.
      record: what its checkpoint said of it.
    """

    name: str
    cnnr: CNNR
    params: Any
    record: dict[str, Any]


def load_judge(source: str | os.PathLike = '') -> Judge:
    """The judge that ships with the package, or another.

    Args:
      source: '' for the packaged one, a `.safetensors` file, or the directory of a
        finished recognition stage.

    Raises:
      CheckpointError: there is no such judge.
    """
    path = Path(source) if source else PACKAGED
    if path.suffix != '.safetensors':
        params, record = checkpoint.load_networks(path, ['cnnr'])
        return Judge(str(path), cnnr_from(record), params['cnnr'], record)
    if not path.is_file():
        raise checkpoint.CheckpointError(f'The judge {path} is missing.')
    with safe_open(path, framework='numpy') as file:
        flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        record = json.loads(file.metadata()['record'])
    params = jax.tree.map(
        lambda value: value.astype(np.float32),
        flax.traverse_util.unflatten_dict(flat, sep='/'),
    )
    name = 'packaged' if path == PACKAGED else str(path)
    return Judge(name, cnnr_from(record), params, record)


def pack_judge(stage: str | os.PathLike, out: str | os.PathLike) -> None:
    """Writes CNNR of a finished recognition stage as float16 safetensors.

    Args:
      stage: directory of the stage.
      out: the file, written under a temporary name first.
    """
    params, record = checkpoint.load_networks(stage, ['cnnr'])
    flat = flax.traverse_util.flatten_dict(params['cnnr'], sep='/')
    halves = {name: np.asarray(value, np.float16) for name, value in flat.items()}
    data = save(halves, metadata={'record': json.dumps(record)})
    out = Path(out)
    unfinished = out.with_suffix('.unfinished')
    unfinished.write_bytes(data)
    unfinished.replace(out)


def _main():
    parser = argparse.ArgumentParser(
        prog='python -m sicnn_jax.metrics.judge', description=pack_judge.__doc__
    )
    parser.add_argument('--stage', required=True, help='such as runs/judge/recognition')
    parser.add_argument('--out', required=True, help='the .safetensors file')
    arguments = parser.parse_args()
    pack_judge(arguments.stage, arguments.out)


if __name__ == '__main__':
    _main()
