"""Hallucinates the small faces of photographs: 12×14 pixels → 96×112.

    python -m sicnn_jax.hallucinate photo.jpg folder --out=faces

The command uses the network that ships, or one of yours with --checkpoint=runs/di.
INPUT is a photograph, a folder of photographs (with its subfolders), or an aligned face
of exactly the network's input size, 12×14 or 24×28. Finding faces needs the extra
`detect`; a landmarks file needs no extra. For `folder/a/b.jpg` the command writes
`a/b_face0.png`, `a/b_face0_compare.png` and, with --paste, `a/b_pasted.png`. It ends
with `report.json`, even if Ctrl-C stops it. Exit status: 0 if it found a face, 1 if it
found none or on an error, 2 for wrong arguments, 130 if it was stopped.
"""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from sicnn_jax import command, compilation_cache, lock, weights, workdir
from sicnn_jax.columns import text_table
from sicnn_jax.data import align, detect
from sicnn_jax.data.detect import DetectedFace
from sicnn_jax.data.records import DatasetError
from sicnn_jax.inference import photographs
from sicnn_jax.inference.hallucinator import Hallucinator
from sicnn_jax.inference.jobs import REPORT, list_jobs
from sicnn_jax.inference.measuring import MEASURES, summarise
from sicnn_jax.inference.photographs import Locate
from sicnn_jax.results_file import write_results

_NO_FACE = 'no face was found in it'
_NOT_UPRIGHT = (
    f'{_NO_FACE} that is upright; --rotations finds those turned by 90° or 180°'
)


def _locator(hallucinator: Hallucinator, arguments: argparse.Namespace) -> Locate:
    """Finds faces by the given landmarks file, or else by the detector."""
    if arguments.landmarks is None:

        def find(job, picture):
            found = hallucinator.locate(
                picture.pixels,
                min_size=arguments.min_size,
                min_score=arguments.min_score,
                rotations=arguments.rotations,
            )
            if not found:
                raise DatasetError(_NO_FACE if arguments.rotations else _NOT_UPRIGHT)
            return detect.choose(found, arguments.faces, picture.pixels.shape)

        return find

    landmarks = align.read_landmarks(arguments.landmarks)

    def look_up(job, picture):
        if job.key not in landmarks:
            raise DatasetError(f'it is not in {arguments.landmarks}')
        points = picture.from_file(landmarks[job.key])
        box = np.concatenate([points.min(0), np.ptp(points, axis=0)])
        return [DetectedFace(box, points, 1.0)]

    return look_up


def _report(listed, hallucinator, entries):
    means = summarise(entries)
    written = {name for entry in entries for name in entry['written']}
    return {
        'stage': str(hallucinator.stage),
        'scale': hallucinator.scale,
        'images': len(entries),
        'faces': sum(len(entry['faces']) for entry in entries),
        **({'measured': means} if means else {}),
        **listed.passed_over.report(),
        # Listed so that a later run does not take them for photographs.
        'written_before': [n for n in listed.written_before if n not in written],
        'files': entries,
    }


def _without_infinities(report):
    """Replaces infinities, which JSON lacks: the PSNR of equal faces is infinite."""

    def finite(value):
        return None if isinstance(value, float) and math.isinf(value) else value

    return jax.tree.map(finite, report)


def _parse(arguments):
    parser = command.parser('hallucinate', __doc__)
    add = parser.add_argument
    add(
        'inputs',
        nargs='+',
        metavar='INPUT',
        type=command.path,
        help='photograph, folder of photographs, or aligned face of 12×14 or 24×28',
    )
    workdir.add_network_flags(parser)
    add('--out', required=True, type=command.path, help='directory to write to')
    add(
        '--paste', action='store_true', help='also write each photograph with its faces'
    )
    add(
        '--faces',
        choices=detect.CHOICES,
        default='all',
        help='which faces of a photograph to hallucinate',
    )
    add(
        '--landmarks',
        type=command.path,
        help='file with PATH and ten numbers on each line, instead of finding faces',
    )
    add(
        '--rotations',
        action='store_true',
        help='if no face is upright, find faces turned by 90° or 180°',
    )
    score = detect.MIN_SCORE
    add('--min_score', type=float, default=score, help='least score of a face, 0 to 1')
    add(
        '--min_size',
        type=float,
        help=f'least size of a face in pixels; default: {detect.SMALLEST}, and at '
        'least 1/45 of the longer side',
    )
    add(
        '--compare',
        type=command.path,
        metavar='REFERENCE',
        help='folder or file with originals of the same names to measure against',
    )
    parsed = parser.parse_args(arguments)
    if not 0 <= parsed.min_score <= 1:
        parser.error(f'--min_score is {parsed.min_score}; expected 0 to 1.')
    if parsed.min_size is not None and parsed.min_size < detect.SMALLEST:
        parser.error(
            f'--min_size is {parsed.min_size}; expected at least {detect.SMALLEST}.'
        )
    if parsed.compare and not os.path.exists(parsed.compare):
        parser.error(f'--compare={parsed.compare} is missing.')
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run(_hallucinate, _parse(arguments))


@lock.one_at_a_time(lambda options: options.out)
def _hallucinate(options):
    out = options.out
    entries: list[dict[str, Any]] = []
    stopped = False
    compilation_cache.keep_programs()
    hallucinator = Hallucinator(options.checkpoint, scale=options.scale)
    if options.checkpoint is None:
        print(weights.NOTICE, flush=True)
    locate = _locator(hallucinator, options)
    out.mkdir(parents=True, exist_ok=True)
    listed = list_jobs(options.inputs, out)
    how = {'locate': locate, 'paste': options.paste, 'reference': options.compare}
    coming = photographs.run(hallucinator, listed.jobs, out, **how)
    try:
        for entry in coming:
            entries.append(entry)
    except KeyboardInterrupt:
        stopped = True
    report, path = _report(listed, hallucinator, entries), out / REPORT
    write_results(_without_infinities(report), path, indent=1)
    if 'measured' in report:
        print('\n'.join(text_table(MEASURES, report['measured'])))
    total = len(listed.jobs)
    done = f'{len(entries)} of {total}' if stopped else total
    print(
        f'{report["faces"]} faces of {done} images{listed.passed_over}; written: {path}'
    )
    if stopped:
        return command.INTERRUPTED
    return command.DONE if report['faces'] else command.ERROR


if __name__ == '__main__':
    sys.exit(main())
