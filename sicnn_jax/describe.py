"""Describes the faces of a data set by a teacher, for distillation.

    python -m sicnn_jax.describe --data=data/lfw --teacher=dlib \\
        --photographs=lfw/images --landmarks=lfw/landmarks.txt

The command writes data/lfw/targets-dlib.safetensors, for `config.data.targets`. Without
photographs, the teacher sees the aligned faces. With them, dlib's network sees its chip
of 150×150 pixels, made from the original pixels. The same command continues an
interrupted run.
"""

import sys

from sicnn_jax import command
from sicnn_jax.data.preparing.teacher import describe


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = command.parser('describe', __doc__)
    add = parser.add_argument
    add('--data', type=command.path, required=True, help='data set of shards')
    add(
        '--teacher',
        type=command.path_or_name,
        default='dlib',
        help='dlib, an .onnx file or a finished stage',
    )
    add(
        '--photographs',
        type=command.path,
        help='directory that the data set was prepared from',
    )
    add('--landmarks', type=command.path, help='landmarks file of the photographs')
    add('--out', type=command.path, help='file to write; default: in the data set')
    options = vars(parser.parse_args(argv))
    return command.run(lambda: print(describe(**options)), goes_on=True)


if __name__ == '__main__':
    sys.exit(main())
