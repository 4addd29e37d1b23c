"""The networks that ship: their files, their faces, and that a wheel has them."""

import json
import os
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import skimage.data
from PIL import Image
from safetensors import safe_open

from sicnn_jax import checkpoint, evaluate, export, hallucinate, metrics, weights
from sicnn_jax.data import align, records
from sicnn_jax.evaluation.judge import PACKAGED
from sicnn_jax.inference import Hallucinator
from tests.documents import ROOT
from tests.writing import write_set

FILES = (*weights.CNNH.values(), weights.CNNR)
# Eyes, nose and corners of the mouth of the astronaut, whom no network saw.
ASTRONAUT = np.array(
    [[203.9, 100.2], [246.4, 103.2], [224.3, 127.5], [201.2, 137.8], [245.2, 140.2]]
)


@pytest.fixture(scope='module')
def astronaut():
    """Her face, uint8 [1, 112, 96, 3]."""
    return align.align_face(skimage.data.astronaut(), ASTRONAUT)[None]


def test_the_files_are_small_halves_and_say_what_they_are():
    sizes = [path.stat().st_size for path in FILES]
    assert sum(sizes) <= 10e6 and max(sizes) <= 6e6
    for path in FILES:
        with safe_open(path, framework='numpy') as file:
            kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        assert kinds == {'F16'}
        record = json.loads(metadata['record'])
        assert record['convention']['colour_order'] == 'RGB'
        # Nobody's folders.
        assert not re.search(r'/(home|root|work|tmp|Users)/', json.dumps(metadata))


@pytest.mark.parametrize('scale', weights.CNNH)
def test_they_come_nearer_than_bicubic(scale, astronaut):
    hallucinator = Hallucinator(scale=scale)
    landmarks = np.array(align.TEMPLATE)
    lr = hallucinator.network_input(astronaut[0], landmarks)[None]
    sr, bicubic = hallucinator(lr), hallucinator.enlarge(lr)
    assert hallucinator.scale == scale
    assert metrics.psnr(sr, astronaut)[0] > metrics.psnr(bicubic, astronaut)[0] + 0.5
    # By the CNNR that ships, which the same teacher taught.
    faces = (astronaut, sr, bicubic, astronaut[:, :, ::-1])
    original, *others = map(hallucinator.features, faces)
    sr, bicubic, mirrored = (metrics.pair_scores(x, original)[0] for x in others)
    assert bicubic + 0.05 < sr < mirrored + 0.1 and mirrored > 0.8


def test_what_is_asked_of_them_is_checked():
    with pytest.raises(
        ValueError, match='scale is 2; the networks that ship have 8 or 4'
    ):
        Hallucinator(scale=2)
    with pytest.raises(ValueError, match='A scale, 4, is for the networks that ship'):
        Hallucinator(weights.CNNH[8], scale=4)
    with pytest.raises(ValueError, match=r'takes \[n, 14, 12, 3\]. Its scale is 8'):
        Hallucinator()(np.zeros((1, 28, 24, 3), np.uint8))
    with pytest.raises(checkpoint.CheckpointError, match='has no network cnnh'):
        Hallucinator(PACKAGED)


def test_the_command_hallucinates_by_them(tmp_path, capsys, astronaut):
    photos = tmp_path / 'photos'
    photos.mkdir()
    for name, size in (('small', (12, 14)), ('larger', (24, 28))):
        Image.fromarray(astronaut[0]).resize(size).save(photos / f'{name}.png')
    assert hallucinate.main([str(photos), f'--out={tmp_path / "faces"}']) == 0
    said = capsys.readouterr()
    assert weights.NOTICE in said.out
    assert 'larger.png: it is 24×28, the input of a network of scale 4' in said.err
    assert (tmp_path / 'faces' / 'small_face0.png').is_file()
    assert not (tmp_path / 'faces' / 'larger_face0.png').exists()
    larger = [str(photos / 'larger.png'), '--scale=4', f'--out={tmp_path / "faces"}']
    assert hallucinate.main(larger) == 0
    assert (tmp_path / 'faces' / 'larger_face0.png').is_file()


def test_they_are_exported_and_read_again(tmp_path):
    out = tmp_path / 'cnnh.safetensors'
    arguments = ['--format=safetensors', '--half', f'--out={out}']
    assert export.main(arguments) == 0
    lr = np.random.default_rng(0).integers(0, 256, (2, 14, 12, 3), np.uint8)
    np.testing.assert_array_equal(Hallucinator(out)(lr), Hallucinator()(lr))
    assert export.main(['--format=onnx', '--half', f'--out={out}']) == 1


def test_they_are_evaluated_on_given_faces(tmp_path, astronaut, capsys):
    rng = np.random.default_rng(0)
    faces = [
        records.Face(
            np.clip(astronaut[0] + rng.normal(0, 20, (112, 96, 3)), 0, 255).astype(
                np.uint8
            ),
            f'p{index // 4}',
            f'p{index // 4}/{index}.png',
            source='test',
        )
        for index in range(20)
    ]
    data = tmp_path / 'faces'
    write_set(data, {'test': faces}, alignment={'kind': 'none'})
    out = tmp_path / 'shipped'

    def run(*flags):
        return evaluate.main(flags)

    assert run(f'--data={data}', f'--out={out}', '--scale=4') == 0
    assert weights.NOTICE in capsys.readouterr().out
    results = json.loads((out / 'results.json').read_text())
    psnr = {row['method']: row['psnr'] for row in results['rows']}
    assert psnr['approach_ii'] > psnr['bicubic']
    similarity = {row['method']: row['identity_similarity'] for row in results['rows']}
    assert similarity['approach_ii'] > similarity['bicubic']
    # What it wrote is a run.
    assert Hallucinator(out).scale == 4
    assert run(f'--data={data}', f'--out={out}') == 1
    assert 'is the workdir of another run' in capsys.readouterr().err
    for flags in ([f'--data={data}'], [f'--workdir={out}', '--scale=4']):
        with pytest.raises(SystemExit) as stopped:
            run(*flags)
        assert stopped.value.code == 2
    assert '--workdir is missing' in capsys.readouterr().err


def test_a_wheel_has_them_and_works(tmp_path):
    """Built and unpacked in an empty place, where the clone is not on the path."""
    build = ['setup.py', '-q', 'build', f'--build-base={tmp_path / "build"}']
    egg = ['egg_info', f'--egg-base={tmp_path}']
    command = [*build, *egg, 'bdist_wheel', f'--dist-dir={tmp_path}']
    subprocess.run(
        [sys.executable, *command], check=True, cwd=ROOT, capture_output=True
    )
    (wheel,) = tmp_path.glob('*.whl')
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        file.extractall(tmp_path / 'site')
    for name in ('README.md', 'LICENSE-RESEARCH', *(path.name for path in FILES)):
        assert f'sicnn_jax/weights/{name}' in names
    assert sum('dist-info' in name and 'LICENSE' in name for name in names) == 2
    code = (
        'import numpy as np; from sicnn_jax import inference, weights; '
        'print(weights.CNNH[8]); '
        'inference.Hallucinator()(np.zeros((1, 14, 12, 3), np.uint8))'
    )
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path / 'site')}
    done = subprocess.run(
        [sys.executable, '-c', code],
        check=True,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(
        tmp_path / 'site/sicnn_jax/weights/cnnh_8x.safetensors'
    )
