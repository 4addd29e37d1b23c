"""What L_SI adds on LFW according to an independent judge, at 8× or 4×.

    python -m benchmarks.studies.identity --data=data/lfw --pairs=pairs.txt \\
        --judge=judge.onnx --scale=8 --seeds=0,1,2

`--data` is as in `benchmarks.studies.allocation`. For each seed, the command trains one
CNNH by L_SR, and each row continues from it on the same batches. Steps are those of
configs/real.py unless `--steps` gives others. `--only` selects rows, separated by ';'.
Rows with a taught CNNR need `--taught`, a finished stage of configs/real.py:distilled,
and `--targets`. The row with another teacher needs `--teacher`, an ONNX file, and
another judge, and is trained only if `--only` names it.

Choose by fold 7; fold 8 is for the report: the faces of LFW's 600 pairs, and all faces
of the same people with up to 4,000 pairs drawn from them. Gains are over L_SR alone,
with paired 95% intervals over faces or pairs. Drawn pairs share faces, so their
intervals are too narrow. Powers of luminance are relative to the originals.

Trained networks are kept below `--runs` (use another directory for another recipe), and
the same command continues after an interruption.
"""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from benchmarks.measuring import earlier_record, markdown, write_record
from benchmarks.studies import light
from benchmarks.studies.light import CHOICE, REPORT, super_resolve
from configs import real
from sicnn_jax import inference, metrics, parallel, train
from sicnn_jax.data import dataset, records
from sicnn_jax.evaluation import held_out
from sicnn_jax.evaluation.held_out import Pairs
from sicnn_jax.evaluation.judge import Judge, load_judge
from sicnn_jax.evaluation.pairs import choose_folds, index_pairs, read_pairs

CONTROL = 'L_SR only'
COLUMNS = ('psnr', 'ssim', 'judge_similarity', 'verification_accuracy')
_DRAWN_PAIRS = 4_000
# Steps between evaluations, so that only the one at the end takes place.
_NEVER = 1_000_000
# From this share of the Nyquist frequency on, along either axis, a photograph of this
# size has little power, so a grid shows there.
_FINE = 0.9
# The number of lowest frequencies along the other axis that count as a grid.
_LOW = 3


@dataclasses.dataclass(frozen=True)
class Row:
    """How a last stage is trained.

    Attributes:
      variant: a variant of configs/real.py, which determines the recogniser.
      stage: the last stage, one of that config.
      fields: fields of the stage that differ from the config's.
      activations: `config.cnnr.activations`, if they differ from the config's.
    """

    variant: str
    stage: str
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    activations: tuple[int, ...] = ()


_PLAIN = {'identity_shift': 0, 'identity_blur': 0.0}
_FEATURES = {'perceptual_weight': 0.0}
ROWS = {
    CONTROL: Row('dlib', 'sr_only'),
    "dlib's network": Row('dlib', 'approach_ii'),
    **{
        f"dlib's network, α = {alpha:,}": Row(
            'dlib',
            'approach_ii',
            {'alpha': float(alpha), 'perceptual_weight': float(alpha)},
        )
        for alpha in (100, 1_000)
    },
    **{
        f"dlib's network, groups {', '.join(map(str, groups))}": Row(
            'dlib', 'approach_ii', activations=groups
        )
        for groups in ((3, 4), (2, 3, 4))
    },
    "dlib's network, features alone": Row('dlib', 'approach_ii', _FEATURES),
    "dlib's network, features alone, faces moved": Row(
        'dlib', 'approach_ii', _FEATURES | {'identity_blur': 0.0}
    ),
    "dlib's network, features alone, faces as they are": Row(
        'dlib', 'approach_ii', _FEATURES | _PLAIN
    ),
    'taught CNNR': Row('distilled', 'approach_ii'),
    'taught CNNR, faces as they are': Row('distilled', 'approach_ii', _PLAIN),
    'taught CNNR, Algorithm 1': Row('distilled', 'domain_integrated'),
    'taught CNNR, taught on SR ∪ HR': Row('distilled', 'taught_integrated'),
    'another teacher': Row('onnx', 'approach_ii'),
}
# These rows need another judge, so their record is another one.
_REVERSED = ('another teacher',)
# Variant → the flags that it needs.
_NEEDED = {'distilled': ('taught', 'targets'), 'onnx': ('teacher',)}


def load_people(
    config: ConfigDict, data: Path, pairs: str
) -> tuple[np.ndarray, dict[str, Pairs]]:
    """Faces of the people of both folds, and sets of pairs of them by name.

    Returns:
      uint8 [n, 112, 96, 3]; LFW's pairs of each fold, and drawn ones of the people of
      the fold that is reported.
    """
    hr, labels = dataset.read_split(data, 'test')
    places = {key: place for place, key in enumerate(records.read_keys(data, 'test'))}
    found = {}
    for fold in (CHOICE, REPORT):
        listed = choose_folds(read_pairs(pairs).pairs, (CHOICE, REPORT), (fold,), pairs)
        indexed = index_pairs(listed, places, (fold,))
        shown = np.unique(np.stack([indexed.a, indexed.b])[:, indexed.reported])
        found[f'fold {fold}'] = Pairs(**vars(indexed), shown=shown)
    config.evaluation.final_pairs = _DRAWN_PAIRS
    reported = found[f'fold {REPORT}'].shown
    people = np.flatnonzero(np.isin(labels, labels[reported]))
    drawn = held_out.draw_pairs(config, labels[people])
    return hr, found | {
        'drawn': dataclasses.replace(
            drawn, a=people[drawn.a], b=people[drawn.b], shown=people
        )
    }


def configure(row: Row, options: argparse.Namespace, seed: int) -> ConfigDict:
    """The config of a row: the recogniser and the last stage."""
    config = real.get_config(row.variant)
    config.seed = seed
    config.scale = options.scale
    config.cpu_devices = options.cpu_devices
    config.data.dir = str(options.data)
    if row.variant == 'distilled':
        config.data.targets = str(options.targets or '')
        config.recognition.checkpoint = str(options.taught or '')
    if row.variant == 'onnx':
        config.cnnr.file = str(options.teacher or '')
    if row.activations:
        config.cnnr.activations = row.activations
    stage = config[row.stage]
    stage.init.cnnh = str(_base(options, seed) / 'hallucination')
    stage.update(row.fields)
    stage.steps = options.steps[1]
    stages = ('recognition', row.stage) if row.stage != 'sr_only' else (row.stage,)
    return _briefly(config, stages)


def _briefly(config, stages):
    """The config with these stages, each evaluated only at its end."""
    config.stages = stages
    for name in stages:
        config[name].evaluate_every = _NEVER
    return config


def _base(options, seed):
    return options.runs / f'{options.scale}x-seed{seed}'


def train_row(name: str, options: argparse.Namespace, seed: int) -> None:
    """Trains a row and, if it does not exist, the CNNH that the row continues from."""
    config = configure(Row('', 'sr_only'), options, seed)
    config.hallucination.steps = options.steps[0]
    train.run(_briefly(config, ('hallucination',)), _base(options, seed))
    row = ROWS[name]
    train.run(configure(row, options, seed), _workdir(name, options, seed))


def _workdir(name, options, seed):
    return _base(options, seed) / name.replace(' ', '_')


def measure(
    faces: Mapping[str, np.ndarray], pairs: Mapping[str, Pairs], judge: Judge
) -> dict[str, Any]:
    """Method → set of pairs → means, and gains over the control with their intervals.

    Args:
      faces: of 'hr' and of each method, uint8 [n, 112, 96, 3].
      pairs: from `load_people`.
      judge: the one that describes the faces.
    """
    hr = faces['hr']
    original = fine_power(hr)
    hr_seen, hr_verified = judge.describe(hr)
    centre = hr_seen.mean(0) if judge.centred else 0.0
    found: dict[str, Any] = {
        'originals': {name: each.verify(hr_verified)[0] for name, each in pairs.items()}
    }
    values: dict[str, dict[str, np.ndarray]] = {}
    for method in (name for name in faces if name != 'hr'):
        sr = faces[method]
        seen, verified = judge.describe(sr)
        values[method] = {
            'psnr': metrics.psnr(sr, hr),
            'ssim': metrics.ssim(sr, hr),
            'judge_similarity': metrics.pair_scores(seen - centre, hr_seen - centre),
        }
        found[method] = {
            name: power / original[name] for name, power in fine_power(sr).items()
        }
        for name, each in pairs.items():
            values[method][name] = each.verify(verified)[1]
    for name, each in pairs.items():
        shown = {
            method: {column: columns[column][each.shown] for column in COLUMNS[:-1]}
            | {COLUMNS[-1]: columns[name]}
            for method, columns in values.items()
        }
        for method, columns in shown.items():
            row = {column: float(value.mean()) for column, value in columns.items()}
            if method not in (CONTROL, 'bicubic'):
                row['gain'] = {
                    column: paired(value, shown[CONTROL][column])
                    for column, value in columns.items()
                }
            found[method][name] = row
    return found


def paired(better: np.ndarray, worse: np.ndarray) -> list[float]:
    """Mean difference and its 95% interval, by resampling faces or pairs."""
    difference = better.astype(float) - worse
    means = metrics.resampled_means(difference)
    low, high = np.percentile(means, (2.5, 97.5))
    return [float(difference.mean()), float(low), float(high)]


def fine_power(faces: np.ndarray) -> dict[str, float]:
    """Mean power of luminance at frequencies where L_SI may leave a grid.

    Args:
      faces: uint8 [n, h, w, 3].

    Returns:
      'nyquist': the power near the Nyquist frequency of either axis; 'grid': the power
      at a period of four pixels, the period of the last two deconvolutions.
    """
    y = metrics.luminance(faces)
    height, width = y.shape[1:3]
    y = y.reshape(-1, height, width)
    # Without a window, the step from one edge to the other would dominate.
    window = np.outer(np.hanning(height), np.hanning(width))
    y = (y - y.mean((1, 2), keepdims=True)) * window
    power = np.mean(np.abs(np.fft.fft2(y, norm='ortho')) ** 2, axis=0)
    rows, columns = (np.abs(np.fft.fftfreq(n)) * 2 for n in (height, width))
    fine = np.maximum(rows[:, None], columns) >= _FINE
    grid = [*power[height // 4, :_LOW], *power[:_LOW, width // 4]]
    return {'nyquist': float(power[fine].mean()), 'grid': float(np.mean(grid))}


def table(record: Mapping[str, Any]) -> str:
    """The results of each row, by seed."""
    rows = []
    for seed, found in sorted(record['seeds'].items()):
        for name, row in found.items():
            if name != 'originals':
                first = 'bicubic' if name == 'bicubic' else f'{name} (seed {seed})'
                rows.append((first, _cells(row)))
    rows = list(dict(rows).items())
    return markdown(
        (
            'PSNR',
            'SSIM',
            'similarity',
            'gain',
            'verification, 600 pairs',
            'drawn pairs',
            'gain',
            'fold 7',
            'power near Nyquist',
            'at 4 pixels',
        ),
        rows,
        first=f'fold {REPORT}',
    )


def summary(record: Mapping[str, Any]) -> str:
    """Means and standard deviations over the seeds that each row has.

    First come the faces and pairs of LFW's list, then all faces of the same people with
    the drawn pairs.
    """
    seeds = record['seeds'].values()
    names = dict.fromkeys(name for found in seeds for name in found)
    rows = []
    for name in (name for name in names if name != 'originals'):
        found = [each[name] for each in seeds if name in each]
        # Bicubic interpolation has no seed.
        found = found[:1] if name == 'bicubic' else found
        cells = [str(len(found)) if len(found) > 1 else '']
        for places in (f'fold {REPORT}', 'drawn'):
            cells += _means([row[places] for row in found])
        rows.append((name, cells))
    columns = (
        'seeds',
        'PSNR',
        'similarity',
        'gain',
        'verification, 600 pairs',
        'PSNR, all faces',
        'similarity, all faces',
        'gain, all faces',
        'verification, drawn pairs',
    )
    return markdown(columns, rows, first=f'fold {REPORT}')


def _means(found):
    """Cells about the same faces in several seeds; the control has no gain."""
    gains = [each['gain']['judge_similarity'][0] for each in found if 'gain' in each]
    return [
        _mean('.2f', [each['psnr'] for each in found]),
        _mean('.4f', [each['judge_similarity'] for each in found]),
        _mean('+.4f', gains) if gains else '',
        _mean('.1%', [each['verification_accuracy'] for each in found]),
    ]


def _mean(form, values):
    text = format(np.mean(values), form)
    if len(values) > 1:
        text += f' ± {format(np.std(values, ddof=1), form.lstrip("+"))}'
    return text


def _cells(row):
    report, choice, drawn = (
        row[name] for name in (f'fold {REPORT}', f'fold {CHOICE}', 'drawn')
    )
    return [
        f'{report["psnr"]:.2f}',
        f'{report["ssim"]:.3f}',
        f'{report["judge_similarity"]:.4f}',
        _gain(report, 'judge_similarity', '{:+.3f}', 1),
        f'{report["verification_accuracy"]:.1%}',
        f'{drawn["verification_accuracy"]:.1%}',
        _gain(drawn, 'verification_accuracy', '{:+.1f}', 100),
        f'{choice["judge_similarity"]:.4f}, {choice["verification_accuracy"]:.1%}',
        f'{row["nyquist"]:.2f}',
        f'{row["grid"]:.2f}',
    ]


def _gain(row, column, form, factor):
    if 'gain' not in row:
        return ''
    mean, low, high = (form.format(factor * value) for value in row['gain'][column])
    return f'{mean} ({low} to {high})'


def main():
    parser = _parser()
    options = parser.parse_args()
    parallel.divide_cpu(options.cpu_devices)
    name = f'identity_{options.scale}x_{"_".join(map(str, options.steps))}'
    names = [name for name in ROWS if name not in _REVERSED]
    if options.only:
        names = options.only.split(';')
    if set(names) & set(_REVERSED):
        name += '_reversed'
    for variant, flags in _NEEDED.items():
        missing = [flag for flag in flags if not getattr(options, flag)]
        if missing and any(ROWS[each].variant == variant for each in names):
            parser.error(
                f'rows of the variant {variant} need --{", --".join(missing)}.'
            )
    config = real.get_config()
    hr, pairs = load_people(config, options.data, options.pairs)
    judge = load_judge(options.judge)
    lr = inference.degrade_faces(hr, scale=options.scale, kind='bicubic')
    for seed in map(int, options.seeds.split(',')):
        faces = {'hr': hr, 'bicubic': inference.enlarge_faces(lr)}
        for row in dict.fromkeys((CONTROL, *names)):
            train_row(row, options, seed)
            stage = _workdir(row, options, seed) / ROWS[row].stage
            faces[row] = super_resolve(stage, lr)
        record = earlier_record(name) or {'seeds': {}}
        record |= {'judge': Path(options.judge).name, 'scale': options.scale}
        record['steps'] = options.steps
        known = record['seeds'].get(str(seed), {})
        record['seeds'][str(seed)] = known | measure(faces, pairs, judge)
        write_record(name, record)
        print(table(record), summary(record), sep='\n\n', flush=True)


def _default_steps():
    config = real.get_config()
    return [config.hallucination.steps, config.sr_only.steps]


def _steps(text):
    first, last = map(int, text.split(','))
    return [first, last]


def _parser():
    parser = light.parser(__doc__)
    add = parser.add_argument
    add('--judge', required=True, help='as for sicnn_jax.evaluate; never a teacher')
    add('--scale', type=int, default=8, choices=(8, 4))
    add('--steps', type=_steps, default=_default_steps(), help='N,M: L_SR, then a row')
    add('--taught', type=Path, help='a finished CNNR taught by dlib')
    add('--targets', type=Path, help="the teacher's features of the shards")
    add('--teacher', type=Path, help='an ONNX file')
    add('--seeds', default='0')
    add('--only', default='', help="rows, separated by ';'")
    add('--runs', type=Path, default=Path('runs/identity'))
    add('--cpu_devices', type=int, default=real.get_config().cpu_devices)
    return parser


if __name__ == '__main__':
    main()
