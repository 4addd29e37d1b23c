"""Runs the notebooks of launch/ from top to bottom and saves their outputs.

    python -m benchmarks.notebooks --only=losses_as_library

They run with their own settings: launch/sicnn_colab.ipynb trains the demo. The command
needs the extra `notebook`.
"""

import argparse
import contextlib
import os
import tempfile
from pathlib import Path

import nbformat

from sicnn_jax.results_file import write_whole
from tests.launch.notebooks import execute

LAUNCH = Path(__file__).parent.parent / 'launch'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [path.stem for path in sorted(LAUNCH.glob('*.ipynb'))]
    parser.add_argument('--only', choices=names, help='default: all')
    parser.add_argument('--folder', type=Path, help='to run in; default: temporary')
    arguments = parser.parse_args()
    root = str(LAUNCH.parent)
    os.environ['PYTHONPATH'] = os.pathsep.join(
        filter(None, [root, os.environ.get('PYTHONPATH')])
    )
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or stack.enter_context(tempfile.TemporaryDirectory())
        for name in [arguments.only] if arguments.only else names:
            path = LAUNCH / f'{name}.ipynb'
            notebook = execute(path, Path(folder))
            write_whole(path, (nbformat.writes(notebook) + '\n').encode())
            print(f'{path} ran and is written.', flush=True)


if __name__ == '__main__':
    main()
