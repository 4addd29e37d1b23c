"""Compares bicubic and the methods of a run on identities that no network saw.

    python -m sicnn_jax.evaluate --workdir=runs/di-demo

The command prints a table and writes `results.json`, `each.npz` (the averaged values)
and `samples.png` into the workdir, or into --out. With pairs of photographs, it
verifies them instead, by more measures (`verification.json`):

    python -m sicnn_jax.evaluate --workdir=runs/di --pairs=pairs.txt --images=lfw \\
        --landmarks=landmarks.txt

Without --workdir, it evaluates the network that ships, on your shards or pairs:

    python -m sicnn_jax.evaluate --data=data/faces --judge=judge.onnx --out=runs/shipped

docs/evaluation.md has the sets and options.
"""

import sys
from collections.abc import Sequence
from typing import Any

from sicnn_jax import command, compilation_cache, paths, weights
from sicnn_jax.evaluation import compare, features, verify
from sicnn_jax.workdir import CONFIG, read_config, shipped_config, write_config


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    workdir, scale = options.pop('workdir'), options.pop('scale')
    out = options.pop('out') or workdir
    photographs = {
        name: options.pop(name)
        for name in ('images', 'landmarks', 'flip', 'video', 'frames')
    }
    in_files = photographs['images'] or options['pairs'].lower().endswith('.bin')
    if workdir and scale:
        parser.error('--scale is only for the network that ships.')
    if not workdir and not (out and (in_files or options['data'])):
        parser.error(
            '--workdir is missing. To evaluate the network that ships, give faces '
            '(--data=SHARDS, or --pairs with --images) and --out=DIRECTORY.'
        )
    if in_files and (options['data'] or not options['pairs']):
        parser.error('--images needs --pairs, and excludes --data.')

    def evaluate():
        compilation_cache.keep_programs()
        config = read_config(workdir) if workdir else _open_shipped(scale or 8, out)
        directory = workdir or out
        paths.check_writable(out, 'give --out=DIRECTORY')
        if not in_files:
            compare.run(config, directory, out=out, **options)
            options['data'] = options['data'] or config.data.dir or directory / 'data'
        if options['pairs']:
            verify.run(config, directory, out=out, **options, **photographs)

    return command.run(evaluate)


def _open_shipped(scale, out):
    """The config of the networks that ship; it makes `out` the workdir of a run."""
    config = shipped_config(scale)
    old, text = out / CONFIG, config.to_json(indent=2)
    if old.exists() and old.read_text(encoding='utf-8') != text:
        raise ValueError(f'--out={out} is the workdir of another run: give a new one.')
    print(weights.NOTICE, flush=True)
    write_config(config, out)
    return config


def _parser():
    parser = command.parser('evaluate', __doc__)
    add = parser.add_argument
    named: dict[str, Any] = {'type': command.path_or_name, 'default': ''}
    add(
        '--workdir',
        type=command.path,
        help='workdir of a finished run; default: the network that ships',
    )
    add(
        '--scale',
        type=int,
        choices=tuple(weights.CNNH),
        help='scale of the network that ships; default: 8',
    )
    add('--out', type=command.path, help='directory to write to; default: the workdir')
    add('--data', **named, help='data set of shards; default: the data of the run')
    add('--split', default='test', help='split of the shards')
    add(
        '--pairs',
        **named,
        help="LFW's pairs.txt, YTF's splits.txt, a .csv with the columns path_a, "
        'path_b, same[, fold], or a .bin of InsightFace',
    )
    for name, text in (
        ('--folds', 'folds of --pairs to use, numbered from 1; default: all'),
        ('--report', 'folds to average over; default: all'),
    ):
        add(name, help=text, type=_numbers, default=(), metavar='N,N,…')
    add('--images', **named, help='directory with the images that --pairs names')
    add(
        '--landmarks',
        **named,
        help='file with five points of each image; default: faces are in the middle',
    )
    add(
        '--flip',
        choices=features.FLIPS,
        default='concat',
        help='how to combine the features of a face and of its mirror image',
    )
    add(
        '--video',
        choices=verify.VIDEOS,
        default='feature',
        help='whether to average the features or the scores of frames',
    )
    add('--frames', type=int, default=0, help='most frames per video; default: all')
    add(
        '--judge',
        **named,
        help="'dlib' (real faces), a finished recognition stage, .safetensors or "
        '.onnx (model.json next to model.onnx describes its input); default: the judge '
        'of the run',
    )
    return parser


def _numbers(text):
    return tuple(int(number) for number in text.split(','))


if __name__ == '__main__':
    sys.exit(main())
