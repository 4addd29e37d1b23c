"""How well a taught CNNR recognises people, compared with its teacher.

    python -m benchmarks.studies.distilled --data=data/lfw --pairs=pairs.txt \\
        --taught=runs/real-distilled/recognition --teacher=dlib \\
        --targets=data/lfw/targets-dlib.safetensors

`--data` is as in `benchmarks.studies.allocation`, and CNNR has never seen its people.
The command verifies the originals of each fold by the threshold that is best on the
other fold, and measures the mean squared distance on the hypersphere to the teacher's
features of the same faces.
"""

from pathlib import Path

import numpy as np

from benchmarks.measuring import append_record, markdown
from benchmarks.studies import light
from benchmarks.studies.light import CHOICE, REPORT, Folds
from sicnn_jax import checkpoint, inference, metrics, models
from sicnn_jax.data import dataset
from sicnn_jax.data.targets import read_targets

_FOLDS = (CHOICE, REPORT)


def distance(stage: Path, data: Path, targets: Path) -> tuple[float, float]:
    """Mean squared distance to the teacher's features of a face, and of a stranger."""
    params, record = checkpoint.load_networks(stage, ['cnnr'])
    hr, _ = dataset.read_split(data, 'test')
    cnnr = models.cnnr_from(record)
    features = inference.extract_features(cnnr, params['cnnr'], hr)
    expected = read_targets(targets, data, 'test').features
    return (
        2 - 2 * float(metrics.pair_scores(features, expected).mean()),
        2 - 2 * float(metrics.pair_scores(features, np.roll(expected, 99, 0)).mean()),
    )


def main():
    parser = light.parser(__doc__)
    add = parser.add_argument
    add('--taught', type=Path, required=True, help='a finished stage with CNNR')
    add('--teacher', default='dlib', help='as --judge of sicnn_jax.evaluate')
    add('--targets', type=Path, required=True, help="the teacher's features")
    options = parser.parse_args()
    near, far = distance(options.taught, options.data, options.targets)
    found = {'distance': near, 'distance_to_others': far}
    for name, judge in (('taught', str(options.taught)), ('teacher', options.teacher)):
        found[name] = Folds(options.data, options.pairs, judge).originals
    append_record('distilled', found | {'teacher_name': options.teacher})
    rows = [
        (name, [f'{found[name][str(fold)]["verification"]:.1%}' for fold in _FOLDS])
        for name in ('taught', 'teacher')
    ]
    print(markdown(tuple(f'fold {fold}' for fold in _FOLDS), rows, first='network'))
    print(f'Distance to the teacher {near:.3f}; between strangers {far:.3f}.')


if __name__ == '__main__':
    main()
