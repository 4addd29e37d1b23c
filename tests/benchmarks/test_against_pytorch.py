"""Our updates beside PyTorch's: what is compared, and that both compute the same."""

import jax
import numpy as np
import pytest

from benchmarks.speed import against_pytorch
from benchmarks.speed.against_pytorch import WORKS, Setting
from sicnn_jax import images, models
from tests import tiny_run
from tests.onnx.onnx_files import Network, normal

ALL = [(networks, work) for networks, works in WORKS.items() for work in works]
SIZES = {
    'cnnh': {
        'width': (4, 4, 3, 2),
        'growth': (3, 2, 2, 2),
        'depth': (2, 1, 1),
        'deconv_width': (5, 4, 3),
    },
    'cnnr': {'widths': (2, 2, 3, 4), 'depths': (1, 1, 1, 1), 'feature_dim': 8},
}
_RNG = np.random.default_rng(0)
LR = np.float32(_RNG.uniform(-1, 1, (2, 14, 12, 3)))


def write_onnx(path):
    network = Network()
    x = network.conv('x', 3, 4, 16, strides=[16, 16], bias=True)
    x = network.add('PRelu', x, normal(4, 1, 1))
    x = network.norm(x, 4)
    x = network.add('Clip', x, np.float32(-2), np.float32(2))
    x = network.add('Flatten', x)
    network.add('Gemm', x, normal(4 * 7 * 7, 6, scale=0.1), normal(6))
    return network.save(path, ['n', 3, 112, 112])


@pytest.mark.parametrize(('networks', 'work'), ALL)
def test_every_step_is_like_the_first_one(networks, work):
    setting = Setting(networks, work, 0, 'float32', 'network.onnx')
    config = setting.configure()
    stage = config[setting.described.stage]
    assert stage.batch_size == (setting.described.batch or stage.batch_size)
    assert config.cnnh.dtype == 'float32'
    assert config.data.source == 'procedural'
    assert config.cnnh.bicubic_skip == (networks == 'light')
    for optimizer in stage.optimizer.values():
        assert (optimizer.schedule, optimizer.warmup_steps) == ('constant', 0)


def test_a_batch_is_the_one_asked_for_unless_the_work_has_its_own():
    batches = {
        work: Setting('light', work, 4, 'float32').configure()[described.stage]
        for work, described in WORKS['light'].items()
    }
    assert batches['distillation'].batch_size == 4
    assert batches['cnnh_inference_64'].batch_size == 64


def test_identity_update_is_left_out_without_a_file(capsys):
    parse = against_pytorch._parser().parse_args
    found = against_pytorch._settings(parse(['--networks=light']))
    assert 'identity_update' not in {each.work for each in found}
    assert '--onnx=NETWORK.onnx' in capsys.readouterr().out
    found = against_pytorch._settings(parse(['--networks=light', '--onnx=x.onnx']))
    assert 'identity_update' in {each.work for each in found}
    (paper, *_) = against_pytorch._settings(parse([]))
    assert (paper.networks, paper.batch) == ('paper', 8)


@pytest.mark.parametrize(
    ('metrics', 'expected'),
    [
        ({'recognition_loss': 2.0, 'annealing': 5.0}, 2.0),
        ({'distillation_loss': 1.5}, 1.5),
        ({'super_resolution_loss': 10.0}, 10.0),
        ({'super_resolution_loss': 10.0, 'super_identity_loss': 0.5}, 14.0),
        (
            {
                'recognition_loss': 2.0,
                'super_resolution_loss': 1.0,
                'super_identity_loss': 1.0,
            },
            9.0,
        ),
    ],
)
def test_losses_are_those_of_the_metrics(metrics, expected):
    assert against_pytorch.loss_of(metrics, alpha=8.0) == expected


@pytest.mark.parametrize('skip', [False, True])
@pytest.mark.parametrize('kernels', [(4, 4, 4), (3, 4, 5)])
def test_cnnh_of_any_sizes_is_the_same_in_pytorch(kernels, skip):
    pytest.importorskip('torch')
    from benchmarks import pytorch_twin

    described = SIZES['cnnh'] | {
        'kind': 'cnnh',
        'deconv_kernels': kernels,
        'final_depth': 1,
        'bicubic_skip': skip,
    }
    network = models.cnnh_from({'models': {'cnnh': described}, 'scale': 8})
    params = tiny_run.draw_params(network, (14, 12))
    ours = jax.jit(network.apply)({'params': params}, LR)
    twin = pytorch_twin.load('cnnh', params, described)
    theirs = twin(pytorch_twin.to_twin(LR).cpu()).detach().permute(0, 2, 3, 1)
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


def test_a_recogniser_of_a_file_is_the_same_in_pytorch(tmp_path):
    torch = pytest.importorskip('torch')
    from benchmarks import onnx_twin

    file = str(write_onnx(tmp_path / 'network.onnx'))
    described = models.describe_file({'kind': 'onnx', 'file': file})
    network = models.cnnr_from({'models': {'cnnr': described}})
    faces = _RNG.integers(0, 256, (3, 112, 96, 3), np.uint8)
    params = network.fit(faces)
    x = images.to_float(faces)
    ours = network.apply({'params': params}, x)
    twin = onnx_twin.Recogniser(file, params)
    theirs = twin(torch.from_numpy(np.array(x)).permute(0, 3, 1, 2))
    np.testing.assert_allclose(theirs, ours, atol=1e-4 * np.abs(ours).max())


@pytest.mark.parametrize('work', ['distillation', 'di_iteration', 'identity_update'])
def test_updates_are_the_same_in_pytorch_step_after_step(work, monkeypatch, tmp_path):
    pytest.importorskip('torch')
    described = WORKS['light'][work]

    def configure():
        config = described.config()
        config.cpu_devices = 0
        for name, sizes in SIZES.items():
            if config[name].kind == name:
                config[name].update(sizes)
        config.data.identities = 4
        return config

    tiny = against_pytorch.Work(configure, described.stage, batch=8)
    monkeypatch.setitem(WORKS['light'], work, tiny)
    onnx = str(write_onnx(tmp_path / 'network.onnx'))
    setting = Setting('light', work, 0, 'float32', onnx)
    path = str(tmp_path / 'twin.npz')
    ours = against_pytorch._ours(setting, path)
    theirs = against_pytorch._pytorch('pytorch', setting, path)
    for _ in range(3):
        assert theirs() == pytest.approx(ours(), rel=1e-3)
