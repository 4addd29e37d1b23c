"""How wide LapSRN and UR-DGN should be beside a light CNNH: widths at equal steps.

    python -m benchmarks.studies.widths --data=data/lfw --pairs=pairs.txt \\
        --judge=judge.onnx --steps=400

`--data` is what `benchmarks.studies.allocation` takes. Each network is trained for
`--steps` on the same batches by its own loss, as in the variant `real` of its config
(UR-DGN without the perceptual loss). Wider networks learn more in the same steps and
take longer for them, so choose, by fold 7, among those with about as many multiply-adds
as CNNH; fold 8 is for the report. Trained networks are kept below `--runs`, and the
same command continues after an interruption.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from benchmarks.measuring import earlier_record, markdown, write_record
from benchmarks.studies import light
from benchmarks.studies.light import Folds, super_resolve
from configs import di, lapsrn, ur_dgn
from sicnn_jax import parallel, train

_RECORD = 'widths'
# Name → config, and the fields of its `cnnh` that are set.
NETWORKS: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    'CNNH': (di, {}),
    'LapSRN 16, depth 3': (lapsrn, {'width': 16, 'depth': 3}),
    'LapSRN 32, depth 3': (lapsrn, {'width': 32, 'depth': 3}),
    'LapSRN 32, depth 5': (lapsrn, {'width': 32, 'depth': 5}),
    'LapSRN 48, depth 3': (lapsrn, {'width': 48, 'depth': 3}),
    'LapSRN 64, depth 2': (lapsrn, {'width': 64, 'depth': 2}),
    'UR-DGN 48, 32, 16': (ur_dgn, {'widths': (48, 32, 16)}),
    'UR-DGN 64, 48, 16': (ur_dgn, {'widths': (64, 48, 16)}),
    'UR-DGN 96, 48, 16': (ur_dgn, {'widths': (96, 48, 16)}),
}


def configure(name: str, data: Path, steps: int) -> ConfigDict:
    """The config of a network, with only the stage `hallucination`."""
    module, fields = NETWORKS[name]
    config = light.second_stage_alone(module.get_config('real'), data)
    config.cnnh.update(fields)
    config.hallucination.steps = steps
    return config


def table(record: Mapping[str, Any]) -> str:
    """The size of each network and its results on both folds."""
    rows = []
    for name, one in record['networks'].items():
        cells = [
            f'{one["multiply_adds"] / 1e9:.2f}',
            f'{one["parameters"] / 1e6:.2f}',
        ]
        rows.append((name, cells + light.both_folds(one['folds'])))
    columns = ('G mult-adds', 'M parameters', *light.FOLD_COLUMNS)
    return markdown(columns, rows, first=f'{record["steps"]} steps')


def main():
    parser = light.parser(__doc__)
    add = parser.add_argument
    add('--judge', default='dlib', help='as for sicnn_jax.evaluate')
    add('--steps', type=int, default=400)
    add('--only', default='', help="names of networks, with ';'; default: all")
    add('--runs', type=Path, default=Path('runs/widths'))
    add('--cpu_devices', type=int, default=di.get_config('real').cpu_devices)
    options = parser.parse_args()
    parallel.divide_cpu(options.cpu_devices)
    folds = Folds(options.data, options.pairs, options.judge)
    for name in options.only.split(';') if options.only else NETWORKS:
        config = configure(name, options.data, options.steps)
        config.cpu_devices = options.cpu_devices
        workdir = options.runs / f'{name}-{options.steps}'.replace(' ', '_')
        train.run(config, workdir)
        found = folds.measure(super_resolve(workdir / 'hallucination', folds.lr))
        record = earlier_record(_RECORD) or {'networks': {}}
        record |= {'steps': options.steps, 'judge': Path(options.judge).name}
        record['networks'][name] = light.count(config) | {'folds': found}
        write_record(_RECORD, record)
        print(table(record), flush=True)


if __name__ == '__main__':
    main()
