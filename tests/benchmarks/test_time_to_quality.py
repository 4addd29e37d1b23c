"""Quality by minutes of training: methods that compare, points that are kept."""

import argparse
import json

import numpy as np
import pytest

from benchmarks.speed import time_to_quality
from benchmarks.speed.time_to_quality import METHODS, STAGE
from sicnn_jax import train
from sicnn_jax.data.dataset import AUGMENTATION

VALUES = {'psnr': 25.0, 'similarity': 0.3, 'verification': 0.7}


class Folds:
    """Those of a judge who finds all faces alike."""

    def __init__(self):
        self.bicubic = {'8': VALUES}
        self.lr = np.zeros((2, 14, 12, 3), np.uint8)

    def measure(self, sr):
        return {'8': VALUES | {'psnr': float(sr.max())}}


def tiny(config):
    """A config with a network of few channels, and procedural faces."""
    config.data.source, config.data.placement = 'procedural', 'host'
    config.data.identities, config.data.images_per_identity = 4, 2
    config.data.test_identities, config.data.test_images_per_identity = 2, 2
    config.cpu_devices = 0
    sizes = {
        'cnnh': {
            'width': (3, 3, 2, 2),
            'growth': 2,
            'depth': 1,
            'deconv_width': (4, 3, 2),
        },
        'lapsrn': {'width': 2, 'depth': 1},
        'ur_dgn': {'widths': (3, 3, 2)},
    }
    config.cnnh.update(sizes[config.cnnh.kind])
    if 'discriminator' in config:
        config.discriminator.widths = (2, 2, 2, 2)
    config[STAGE].batch_size = 8
    return config


def test_all_methods_see_the_same_batches(tmp_path):
    configs = [method.configure(tmp_path) for method in METHODS.values()]
    seen = {
        json.dumps(
            [
                config.seed,
                config.data.to_dict(),
                config[STAGE].data_seed,
                config[STAGE].batch_size,
            ],
            sort_keys=True,
        )
        for config in configs
    }
    assert len(seen) == 1
    assert set(AUGMENTATION) <= set(configs[0].data)
    for config in configs:
        assert config.stages == (STAGE,)
        assert config.cnnh.dtype == 'float32'
        train.build_stage(config, STAGE, tmp_path)


def test_steps_are_what_fits():
    assert time_to_quality.steps_in(2, 0.5) == 240
    assert time_to_quality.steps_in(0.01, 30) == 1


def test_points_are_merged_and_not_measured_again(monkeypatch, tmp_path):
    monkeypatch.setenv('BENCHMARK_RESULTS', str(tmp_path))
    trained = []

    def train_method(method, config, steps, workdir):
        trained.append((method.title, steps))
        return lambda lr: lr + 26

    monkeypatch.setattr(time_to_quality, 'train_method', train_method)
    monkeypatch.setattr(
        time_to_quality,
        'time_method',
        lambda *_: {'step_seconds': 0.5, 'compile_seconds': 3.0},
    )

    def run(methods, minutes):
        record = time_to_quality.begin(
            time_to_quality.earlier_record(time_to_quality.NAME), 'judge.onnx', 2
        )
        options = argparse.Namespace(
            methods=methods, minutes=minutes, data=tmp_path, runs=tmp_path
        )
        time_to_quality.run(record, Folds(), options, cores=2)
        return record

    run('lapsrn', '1')
    run('light', '1,10')
    record = run('light,lapsrn', '1,10')
    assert trained == [
        ('LapSRN', 120),
        ('CNNH, light', 120),
        ('CNNH, light', 1200),
        ('LapSRN', 1200),
    ]
    lines = time_to_quality.table(record).splitlines()
    assert [line.split(' | ')[:2] for line in lines[3:]] == [
        ['| CNNH, light', '1'],
        ['| CNNH, light', '10'],
        ['| LapSRN', '1'],
        ['| LapSRN', '10'],
    ]
    assert '26.00 | 0.3000 | 70.0%' in lines[3]
    with pytest.raises(ValueError, match='move that record away'):
        time_to_quality.begin(record, 'another.onnx', 2)


def test_a_point_is_trained_and_enlarges_faces(tmp_path):
    method = METHODS['light']
    config = tiny(method.configure(tmp_path))
    enlarge = time_to_quality.train_method(method, config, 2, tmp_path / 'run')
    found = time_to_quality.measure(enlarge, Folds())
    assert found['evaluation_seconds'] > 0
    assert enlarge(Folds().lr).shape == (2, 112, 96, 3)


def test_the_twin_has_our_batches_and_our_schedule(tmp_path, monkeypatch):
    pytest.importorskip('torch')
    config = tiny(METHODS['light'].configure(tmp_path))
    config[STAGE].steps, config.log_every = 4, 1
    config[STAGE].checkpoint_every = 4
    twin = time_to_quality.Twin(config, compiled=False)
    theirs = twin.train(4)
    train.run(config, tmp_path / 'run')
    lines = (tmp_path / 'run' / STAGE / 'metrics.jsonl').read_text().splitlines()
    ours = [json.loads(line)['super_resolution_loss'] for line in lines]
    np.testing.assert_allclose(theirs, ours, rtol=1e-3)
    assert twin(Folds().lr).shape == (2, 112, 96, 3)
