"""An installation without the extra `records`: no TensorFlow, TFDS or scikit-image."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import tiny_training

ROOT = Path(__file__).parent.parent
HIDDEN = ('tensorflow', 'tensorflow_datasets', 'importlib_resources', 'skimage')
_HIDE = f"""
import importlib.util, sys
from importlib.abc import MetaPathFinder

class Hide(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {HIDDEN}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, Hide())
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: (
    None if name in {HIDDEN} else find_spec(name, *more)
)
"""


@pytest.fixture
def base(tmp_path):
    """Runs a module where these packages are not installed."""
    (tmp_path / 'hide').mkdir()
    (tmp_path / 'hide' / 'sitecustomize.py').write_text(_HIDE)
    environment = os.environ | {
        'PYTHONPATH': os.pathsep.join([str(tmp_path / 'hide'), str(ROOT)]),
        'XLA_FLAGS': tiny_training.xla_flags(1),
    }

    def run(*arguments):
        return subprocess.run(
            [sys.executable, '-m', *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
        )

    return run


def test_they_are_hidden(base):
    for name in HIDDEN:
        assert f'No module named {name}' in base(name).stderr


def test_it_trains_on_procedural_faces(base, tmp_path):
    fields = tiny_training.fields(1, ('recognition', 'hallucination'))
    fields['data.source'] = 'procedural'
    _python, _flag, *command = tiny_training.command(tmp_path / 'run', fields)
    ran = base(*command)
    assert ran.returncode == 0, ran.stderr
    results = json.loads((tmp_path / 'run' / 'results.json').read_text())
    assert 0 < results['rows'][-1]['ssim'] < 1


def test_what_needs_shards_says_so_before_anything_is_made(base, tmp_path):
    Image.new('RGB', (96, 112)).save(tmp_path / 'face.png')
    for arguments in (
        ('sicnn_jax.main', '--config=di:demo', '--workdir=run'),
        ('sicnn_jax.data.prepare', '--source=.', '--out=run/data'),
    ):
        ran = base(*arguments)
        assert ran.returncode in (1, 2)
        assert "pip install 'sicnn_jax[records]'" in ran.stderr
        assert 'Traceback' not in ran.stderr
        assert not (tmp_path / 'run').exists()


def test_it_hallucinates(base, tmp_path):
    face = np.random.default_rng(0).integers(0, 256, (14, 12, 3), np.uint8)
    Image.fromarray(face).save(tmp_path / 'face.png')
    ran = base('sicnn_jax.cli', 'hallucinate', 'face.png', '--out=faces')
    assert ran.returncode == 0, ran.stderr
    with Image.open(next((tmp_path / 'faces').glob('face*.png'))) as made:
        assert made.height >= 112
