"""Seconds from a command to its first face, without and with kept programs.

    python -m benchmarks.speed.start_up

The command runs `sicnn --help`, and `sicnn hallucinate` for a face of 12×14 pixels and
for a photograph with landmarks, each in its own process: without kept programs, as in
the first run ever, and with the programs that this run has kept. The phases for the
face are timed inside such a process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measuring import append_record, markdown, versions
from sicnn_jax.template import TEMPLATE

FIRST, LATER = 'first run ever', 'later'
PHASES = ('import', 'read', 'first face', 'second face')
# Run in its own process: the phases of `hallucinate` for a face of 12×14.
_PHASES = """
import json, sys, time
start = time.perf_counter()
import numpy as np
from sicnn_jax import compilation_cache, hallucinate
times = [time.perf_counter()]
compilation_cache.keep_programs()
network = hallucinate.Hallucinator()
times.append(time.perf_counter())
for _ in range(2):
    network(np.zeros((1, *network.lr_shape), np.uint8))
    times.append(time.perf_counter())
print(json.dumps([b - a for a, b in zip([start, *times], times)]))
"""


def write_inputs(directory: Path) -> dict[str, list[str]]:
    """Pictures of noise, and the arguments of each command."""
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)
    face, photograph = directory / 'face.png', directory / 'photograph.png'
    Image.fromarray(noise[:14, :12]).save(face)
    Image.fromarray(noise).save(photograph)
    landmarks = directory / 'landmarks.txt'
    numbers = ' '.join(f'{number:.1f}' for number in np.ravel(TEMPLATE) * 0.3 + 400)
    landmarks.write_text(f'{photograph.name} {numbers}\n', encoding='utf-8')
    out = f'--out={directory / "out"}'
    return {
        '--help': ['--help'],
        'face': ['hallucinate', str(face), out],
        'photograph': [
            *('hallucinate', str(photograph), out),
            f'--landmarks={landmarks}',
        ],
    }


def run(arguments: list[str], home: Path) -> float:
    """Seconds of `sicnn` with these arguments; it keeps programs in this home."""
    return _timed([sys.executable, '-m', 'sicnn_jax.cli', *arguments], home)[0]


def phases(home: Path) -> list[float]:
    """Seconds of `PHASES`."""
    return json.loads(_timed([sys.executable, '-c', _PHASES], home)[1])


def _timed(command, home):
    environment = os.environ | {'HOME': str(home)}
    environment.pop('JAX_COMPILATION_CACHE_DIR', None)
    start = time.perf_counter()
    done = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return time.perf_counter() - start, done.stdout


def measure(directory: Path, rounds: int) -> tuple[dict, dict]:
    """Seconds of each command and phase, as (first run ever, later) of each round."""
    commands = write_inputs(directory)
    whole = {name: [] for name in commands}
    parts = {name: [] for name in PHASES}
    for number in range(rounds):
        for name, arguments in commands.items():
            home = directory / f'home-{name.strip("-")}-{number}'
            whole[name].append([run(arguments, home) for _ in range(2)])
        home = directory / f'home-phases-{number}'
        both = [phases(home) for _ in range(2)]
        for name, pair in zip(PHASES, zip(*both, strict=True), strict=True):
            parts[name].append(pair)
        print(f'round {number + 1} of {rounds}', flush=True)
    return whole, parts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as directory:
        whole, parts = measure(Path(directory), rounds)
    record = {'rounds': rounds, **versions('flax', 'numpy', 'orbax-checkpoint')}
    for title, rows in (('command', whole), ('phase', parts)):
        medians = {
            name: [statistics.median(column) for column in zip(*pairs, strict=True)]
            for name, pairs in rows.items()
        }
        cells = [(name, [f'{s:.2f} s' for s in row]) for name, row in medians.items()]
        print(markdown((FIRST, LATER), cells, title), end='\n\n')
        record[title] = medians
    append_record('start_up', record)


if __name__ == '__main__':
    main()
