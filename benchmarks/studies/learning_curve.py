"""How good configs/real.py is after minutes of training on one core, at 8× or 4×.

    python -m benchmarks.studies.learning_curve --data=data/lfw --pairs=pairs.txt \\
        --judges=dlib,judge.onnx --scale=8

`--data` is as in `benchmarks.studies.allocation`. The command uses one core and trains
in pieces: each point continues from the network of the previous one, for the steps that
the minutes between them allow, with a learning rate that falls to zero. Fold 8 is
reported. Trained networks are kept below `--runs`, and the same command continues after
an interruption.
"""

import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from benchmarks.measuring import earlier_record, markdown, write_record
from benchmarks.studies import light
from benchmarks.studies.light import REPORT, Folds, super_resolve, time_steps
from sicnn_jax import train


def configure(data: Path, scale: int) -> ConfigDict:
    """The config of a scale, on one core."""
    config = light.configure(data)
    config.scale = scale
    config.cpu_devices = 0
    return config


def train_piece(config: ConfigDict, steps: int, before: Path | None, workdir: Path):
    """Trains from the previous piece's network; returns the stage's directory."""
    stage = config.hallucination
    stage.steps = steps
    stage.init.cnnh = str(before) if before else ''
    # Draws other batches than the earlier pieces.
    stage.data_seed = 1 + steps
    train.run(config, workdir)
    return workdir / 'hallucination'


def table(record: dict[str, Any]) -> str:
    """The results on fold 8 by minutes, and by each judge."""
    rows = []
    for minutes, point in record['points'].items():
        cells = [str(point['steps'])]
        for judge in record['judges']:
            found = point[judge][str(REPORT)]
            cells += [f'{found["similarity"]:.4f}', f'{found["verification"]:.1%}']
        psnr = point[record['judges'][0]][str(REPORT)]['psnr']
        rows.append((minutes, [*cells, f'{psnr:.2f}']))
    columns = ['steps']
    for judge in record['judges']:
        columns += [f'similarity ({judge})', f'verification ({judge})']
    return markdown((*columns, 'PSNR'), rows, first='minutes')


def main():
    parser = light.parser(__doc__)
    add = parser.add_argument
    add('--judges', default='dlib', help='each as for sicnn_jax.evaluate: A,B,…')
    add('--scale', type=int, choices=(8, 4), default=8)
    add('--minutes', default='2,5,10,20,60')
    add('--core', type=int, default=0, help='the core to use')
    add('--runs', type=Path, default=Path('runs/learning_curve'))
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    config = configure(options.data, options.scale)
    name = f'learning_curve_{options.scale}x'
    record = earlier_record(name)
    judges = options.judges.split(',')
    if record is None:
        timed = time_steps(config)
        print(timed, flush=True)
        record = {'judges': [Path(judge).name for judge in judges], **timed}
        record['points'] = {}
        write_record(name, record)
    folds = {
        Path(judge).name: Folds(options.data, options.pairs, judge, options.scale)
        for judge in judges
    }
    record['originals'] = {judge: each.originals for judge, each in folds.items()}
    record['points']['bicubic'] = {'steps': ''} | {
        judge: each.bicubic for judge, each in folds.items()
    }
    before, done, total = None, 0.0, 0
    for minutes in map(float, options.minutes.split(',')):
        workdir = options.runs / f'{options.scale}x-{minutes:g}'
        steps = light.steps_in(minutes - done, record['step_seconds'])
        before, done, total = (
            train_piece(config, steps, before, workdir),
            minutes,
            total + steps,
        )
        record['points'][f'{minutes:g}'] = {'steps': total} | {
            judge: each.measure(super_resolve(before, each.lr))
            for judge, each in folds.items()
        }
        write_record(name, record)
    print(table(record))


if __name__ == '__main__':
    main()
