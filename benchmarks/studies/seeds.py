"""Repeats a run over seeds and compares the gain of SICNN with their spread.

    python -m benchmarks.studies.seeds --config=configs/di.py:demo --seeds=0,1,2

Finished runs are not repeated. The command prints a Markdown table and writes a JSON
record.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.measuring import markdown, write_record
from sicnn_jax.main import default_workdir

COLUMNS = (
    'psnr',
    'ssim',
    'identity_similarity',
    'judge_similarity',
    'verification_accuracy',
)


def run(config: str, workdir: Path, overrides: list[str]) -> dict:
    """Results of a run, which is trained first if needed."""
    results = workdir / 'results.json'
    if not results.exists():
        start = time.monotonic()
        command = [sys.executable, '-m', 'sicnn_jax.main', f'--config={config}']
        subprocess.run([*command, f'--workdir={workdir}', *overrides], check=True)
        minutes = (time.monotonic() - start) / 60
        print(f'{workdir}: {minutes:.1f} minutes', flush=True)
    return json.loads(results.read_text())


def table(results: list[dict]) -> str:
    """Mean ± standard deviation over seeds, and the paired gain of SICNN."""
    values = {
        row['method']: np.array(
            [
                [_number(other['rows'][index][column]) for column in COLUMNS]
                for other in results
            ]
        )
        for index, row in enumerate(results[0]['rows'])
    }
    gain = values['sicnn'] - values['sr_only']
    return markdown(
        COLUMNS,
        [
            (name, _cells(rows.mean(0), rows.std(0, ddof=1)))
            for name, rows in (*values.items(), ('sicnn − sr_only', gain))
        ],
    )


def _number(value):
    return np.nan if value is None else value


def _cells(means, deviations):
    return [
        '' if np.isnan(mean) else f'{mean:.4f} ± {deviation:.4f}'
        for mean, deviation in zip(means, deviations, strict=True)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default='configs/di.py:demo')
    parser.add_argument('--seeds', default='0,1,2')
    arguments, overrides = parser.parse_known_args()
    seeds = [int(seed) for seed in arguments.seeds.split(',')]
    name = default_workdir(arguments.config)
    results = [
        run(
            arguments.config,
            name.with_name(f'{name.name}-seed{seed}'),
            [f'--config.seed={seed}', *overrides],
        )
        for seed in seeds
    ]
    print(table(results))
    record = {'config': arguments.config, 'overrides': overrides, 'seeds': seeds}
    write_record(f'seeds-{name.name}', record | {'results': results})


if __name__ == '__main__':
    main()
