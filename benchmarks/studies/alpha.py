"""Trains stage 3 with several α from the same networks, on separate faces.

    python -m benchmarks.studies.alpha --config=configs/di.py:demo \\
        --alphas=8,512,768,1024

The command helps to choose α. It draws procedural faces, for training and test, that
differ from the config's, so α is not chosen on the faces that the config reports.
Finished runs are not repeated.
"""

import argparse

from benchmarks.measuring import markdown, write_record
from benchmarks.studies.seeds import COLUMNS, run
from sicnn_jax.main import default_workdir

# Seeds of the faces and of the networks; no other command uses them.
DATA_SEED, SEED = 7, 10


def table(results: dict[float, dict]) -> str:
    """SICNN by α, after the other methods of the first run."""
    first, *_ = results.values()
    rows = [(row['method'], row) for row in first['rows'] if row['method'] != 'sicnn']
    rows += [
        (f'sicnn, α = {alpha:g}', other['rows'][-1]) for alpha, other in results.items()
    ]
    return markdown(
        COLUMNS,
        [
            (name, ['' if row[c] is None else f'{row[c]:.4f}' for c in COLUMNS])
            for name, row in rows
        ],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default='configs/di.py:demo')
    parser.add_argument('--alphas', default='8,512,768,1024')
    arguments, overrides = parser.parse_known_args()
    name = default_workdir(arguments.config)
    overrides += [
        f'--config.seed={SEED}',
        f'--config.data.seed={DATA_SEED}',
        f'--config.data.dir={name.with_name(f"{name.name}-alpha-data")}',
    ]
    results, shared = {}, []
    for alpha in map(float, arguments.alphas.split(',')):
        workdir = name.with_name(f'{name.name}-alpha{alpha:g}')
        results[alpha] = run(
            arguments.config,
            workdir,
            [*overrides, *shared, f'--config.domain_integrated.alpha={alpha}'],
        )
        shared = shared or [
            f'--config.{stage}.checkpoint={workdir / stage}'
            for stage in ('recognition', 'hallucination', 'sr_only')
        ]
    print(table(results))
    record = {'config': arguments.config, 'overrides': overrides}
    write_record(f'alpha-{name.name}', record | {'results': results})


if __name__ == '__main__':
    main()
