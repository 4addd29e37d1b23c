"""Imports the weights of a CNNH or CNNR that was trained in PyTorch.

    python -m sicnn_jax.pytorch_weights --weights=x.pt --network=cnnh --out=runs/theirs

`--weights` is a state dict, written by `torch.save` (read with `weights_only=True`;
needs PyTorch) or as `.safetensors`. `--out` becomes the directory of a finished stage,
which everything that takes a checkpoint accepts. docs/export.md has the layout. The
sizes of the network and the scale follow from the weights.
"""

import sys
from collections.abc import Sequence
from typing import Any

from sicnn_jax import command, images
from sicnn_jax.inference.pytorch_weights import DECONVS, NETWORKS, import_weights


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = command.parser('pytorch_weights', __doc__)
    add = parser.add_argument
    path: dict[str, Any] = {'required': True, 'type': command.path}
    add('--weights', **path, help='file of the weights: .pt, .pth or .safetensors')
    add('--network', required=True, choices=NETWORKS, help='which network it is')
    add('--out', **path, help='directory of the stage to write')
    add(
        '--deconv',
        choices=DECONVS,
        default='output_padding',
        help='ConvTranspose2d with padding (k − 1) // 2, or the same on mirrored '
        'images',
    )
    add(
        '--degradation',
        choices=images.DEGRADATIONS,
        default='bicubic',
        help='how its training faces were made small',
    )
    types = ('float32', 'bfloat16')
    add('--dtype', choices=types, default=types[0], help='type that it computes in')
    options = vars(parser.parse_args(arguments))

    def convert():
        record = import_weights(**options)
        sizes = record['models'][options['network']]
        print(f'{options["out"]} written: {options["network"]}, {sizes}')

    return command.run(convert)


if __name__ == '__main__':
    sys.exit(main())
