"""Exported networks compute what the original does, without it."""

import json
import subprocess
import sys

import flax
import jax
import numpy as np
import pytest
from safetensors import safe_open

from sicnn_jax import export, images, models, packed
from sicnn_jax.inference import exported, exporting, onnx_model
from tests.documents import snippet
from tests.tiny_run import CNNH, CNNR, draw_params, write_run

SIZES = CNNH | {'deconv_kernels': [3, 5, 3], 'depth': 2}
# Those of each resolution and stage of their own, and even kernels.
TAPERED = {
    'width': [5, 4, 4, 3],
    'growth': [3, 2, 2, 1],
    'depth': [2, 1, 1],
    'deconv_width': [6, 5, 4],
    'deconv_kernels': [2, 4, 6],
    'final_depth': 1,
    'bicubic_skip': True,
}


@pytest.fixture(scope='module', params=[(8, SIZES), (4, SIZES), (8, TAPERED)])
def network(request):
    """Record, params, faces of two batch sizes and what CNNH makes of them."""
    scale, sizes = request.param
    record = {
        'convention': images.CONVENTION,
        'scale': scale,
        'degradation': 'bicubic',
        # Of the computation: an export computes in float32 nevertheless.
        'models': {'cnnh': sizes | {'dtype': 'bfloat16'}, 'cnnr': CNNR},
    }
    shape = models.LR_SHAPES[scale]
    params = draw_params(models.cnnh_from(record), shape)
    cnnh = jax.jit(models.cnnh_from(record).clone(dtype=np.float32).apply)
    batches = [
        np.random.default_rng(n).uniform(-1, 1, (n, *shape, 3)).astype(np.float32)
        for n in (1, 3)
    ]
    expected = [np.asarray(cnnh({'params': params}, lr)) for lr in batches]
    assert expected[1].std() > 0.05
    return record, params, batches, expected


def test_stablehlo(network):
    record, params, batches, expected = network
    program = jax.export.deserialize(bytearray(exporting.to_stablehlo(params, record)))
    assert program.platforms == exporting.PLATFORMS
    for lr, sr in zip(batches, expected, strict=True):
        np.testing.assert_allclose(program.call(lr), sr, atol=1e-4)


def test_onnx(network):
    pytest.importorskip('onnx')
    runtime = pytest.importorskip('onnxruntime')
    record, params, batches, expected = network
    session = runtime.InferenceSession(
        onnx_model.to_onnx(params, record), providers=['CPUExecutionProvider']
    )
    for lr, sr in zip(batches, expected, strict=True):
        np.testing.assert_allclose(session.run(None, {'lr': lr})[0], sr, atol=1e-4)
    stored = session.get_modelmeta().custom_metadata_map
    assert stored == exported.describe(record)
    assert stored['colour_order'] == 'RGB' and stored['scale'] == str(record['scale'])


def test_safetensors(network, tmp_path):
    record, params, _, _ = network
    path = tmp_path / 'cnnh.safetensors'
    path.write_bytes(packed.pack('cnnh', params, record, exported.describe(record)))
    with safe_open(path, framework='numpy') as file:
        flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        stored = json.loads(file.metadata()['record'])
    assert {name: stored[name] for name in record} == record
    jax.tree.map(
        np.testing.assert_array_equal,
        flax.traverse_util.unflatten_dict(flat, sep='/'),
        params,
    )


def test_the_command_writes_whole_files(tmp_path, capsys):
    write_run(tmp_path / 'run', recognition=False)
    out = tmp_path / 'a' / 'cnnh.shlo'
    arguments = [f'--checkpoint={tmp_path / "run"}', '--format=stablehlo']
    assert export.main([*arguments, f'--out={out}']) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == [
        'cnnh.shlo',
        'cnnh.shlo.json',
    ]
    assert str(out) in capsys.readouterr().out
    # What the documentation does with it.
    code = snippet('docs/export.md', 'deserialize')
    command = [sys.executable, '-c', f'{code}\nassert sr.shape == (5, 112, 96, 3)']
    subprocess.run(command, check=True, cwd=out.parent)


def test_a_checkpoint_that_is_none_is_a_message(tmp_path, capsys):
    arguments = [f'--checkpoint={tmp_path}', '--format=onnx', '--out=x.onnx']
    assert export.main(arguments) == 1
    assert 'neither a finished stage nor the workdir' in capsys.readouterr().err


def test_a_missing_package_names_the_extra(network, monkeypatch):
    record, params, _, _ = network
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(ValueError, match=r"pip install 'sicnn_jax\[export\]'"):
        onnx_model.to_onnx(params, record)


def test_an_onnx_file_runs_without_jax(tmp_path):
    """The snippet of the docs, on a file, where importing JAX fails."""
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    from PIL import Image

    write_run(tmp_path / 'run', recognition=False)
    exporting.export(tmp_path / 'run', 'onnx', tmp_path / 'cnnh.onnx')
    face = np.random.default_rng(0).integers(0, 256, (14, 12, 3), np.uint8)
    Image.fromarray(face).save(tmp_path / 'small.png')
    shown = snippet('docs/export.md', 'onnxruntime.Inf')
    code = f"import sys; sys.modules['jax'] = None\n{shown}"
    subprocess.run([sys.executable, '-I', '-c', code], check=True, cwd=tmp_path)

    from sicnn_jax.inference import Hallucinator

    made = np.asarray(Image.open(tmp_path / 'large.png'))
    expected = Hallucinator(tmp_path / 'run')(face[None])[0]
    np.testing.assert_allclose(made.astype(int), expected, atol=1)
