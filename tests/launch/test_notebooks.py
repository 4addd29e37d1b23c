"""The notebooks, from top to bottom at a tiny size."""

from pathlib import Path

import numpy as np
import pytest

from sicnn_jax.data import records
from tests.writing import write_set

pytest.importorskip('nbclient', reason="needs the extra 'notebook'")
pytest.importorskip('ipykernel', reason="needs the extra 'notebook'")

from tests import tiny_training
from tests.launch import notebooks

# Two stages of the demo, shrunk until they take seconds.
TINY = tiny_training.fields(2, ('recognition', 'domain_integrated')) | {
    'data.source': 'records',
    'data.dir': 'faces',
    'domain_integrated.init.cnnh': '',
}


@pytest.fixture(autouse=True)
def _kernels_find_the_package(monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(tiny_training.ROOT))
    # One device, as most who open a notebook have.
    monkeypatch.setenv('XLA_FLAGS', tiny_training.xla_flags(1))


def outputs(notebook):
    """All that cells print, and the HTML that they show."""
    found = [output for cell in notebook.cells for output in cell.get('outputs', ())]
    assert not [output for output in found if output.output_type == 'error']
    printed = ''.join(output.get('text', '') for output in found)
    shown = ''.join(output.get('data', {}).get('text/html', '') for output in found)
    return printed, shown


def write_faces(directory):
    """Noise: drawing faces would take longer than all the rest."""
    draw = np.random.default_rng(0).integers
    splits = {
        split: [
            records.Face(
                draw(256, size=(112, 96, 3), dtype=np.uint8),
                f'{split}{i % 3}',
                f'{split}{i}',
            )
            for i in range(12)
        ]
        for split in ('train', 'test')
    }
    write_set(directory, splits, alignment={'kind': 'none'})


def test_colab(tmp_path):
    write_faces(tmp_path / 'faces')
    path = tiny_training.ROOT / 'launch' / 'sicnn_colab.ipynb'
    parameters = {'CONFIG': 'di:demo', 'OVERRIDES': TINY, 'EVERY': 1}
    printed, shown = outputs(notebooks.execute(path, tmp_path, parameters, 300))
    assert 'cpu' in printed and 'judge sim.' in printed
    workdir = tmp_path / 'runs' / 'notebook'
    assert '[domain_integrated] 2/2' in (workdir / 'train.log').read_text()
    assert (workdir / 'report.html').is_file()
    # The curves of the last stage, and the face that was hallucinated.
    assert 'super identity loss' in shown and 'recognition done' in shown
    assert 'no original: as small as the input' in shown


def test_losses_as_library(tmp_path):
    path = tiny_training.ROOT / 'launch' / 'losses_as_library.ipynb'
    parameters = {'STEPS': 3, 'FACES': 4, 'PEOPLE': 2}
    printed, shown = outputs(notebooks.execute(path, tmp_path, parameters, 300))
    assert '2: L_FR' in printed and '2: L_SR' in printed
    assert shown.count('<img') == 9


@pytest.mark.parametrize('name', ['sicnn_colab', 'losses_as_library'])
def test_committed_with_its_outputs(name):
    import nbformat

    notebook = nbformat.read(
        tiny_training.ROOT / 'launch' / f'{name}.ipynb', as_version=4
    )
    assert '<img' in outputs(notebook)[1]
    assert str(Path.home()) not in nbformat.writes(notebook)
