"""Photographs a second, whole and by phase."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.speed import photographs
from sicnn_jax.data import align
from sicnn_jax.inference import Hallucinator
from sicnn_jax.inference.jobs import list_jobs
from tests import tiny_run


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    monkeypatch.setattr(photographs, 'SIZE', (360, 270))


def test_every_photograph_is_counted_in_every_phase(tmp_path):
    tiny_run.write_run(tmp_path / 'run', recognition=False)
    source, out = tmp_path / 'source', tmp_path / 'faces'
    source.mkdir()
    landmarks = photographs.draw(source, 3)
    jobs = list_jobs([source], out).jobs
    hallucinator = Hallucinator(tmp_path / 'run')
    command = photographs.Command(hallucinator, jobs, out, landmarks)
    record = photographs.measure(command, 1)
    assert record['photographs'] == record['faces'] == 3
    assert list(record['phases_per_second']) == ['read', 'align', 'network', 'write']
    assert 0 < record['of_slowest'] < record['of_all']
    assert len([*out.glob('*_face0.png')]) == 3
    assert 'all of it' in photographs.table(record)


def test_drawn_faces_lie_where_their_landmarks_say(tmp_path):
    landmarks = photographs.draw(tmp_path, 1)
    picture = np.asarray(Image.open(tmp_path / '0000.jpg'))
    assert picture.shape == (270, 360, 3)
    face = photographs.render(1)[0].astype(float)
    found = align.align_face(picture, landmarks).astype(float)
    inner = slice(8, -8)
    assert np.abs(face - found)[inner, inner].mean() < 12


def test_given_photographs_are_enlarged_over_and_over(tmp_path):
    source, made = tmp_path / 'given', tmp_path / 'made'
    source.mkdir()
    made.mkdir()
    for name, size in (('a.png', (50, 40)), ('b.png', (40, 40))):
        Image.new('RGB', size).save(source / name)
    photographs.enlarge(source, made, 3)
    files = sorted(made.iterdir())
    assert [path.name for path in files] == ['0000.jpg', '0001.jpg', '0002.jpg']
    for path in files:
        width, height = Image.open(path).size
        assert width * height == pytest.approx(360 * 270, rel=0.02)
