"""What was trained with something else than the config says is refused, in words."""

from pathlib import Path

import numpy as np
import pytest

from configs import di
from sicnn_jax import checkpoint, provenance, workdir
from sicnn_jax.errors import CheckpointError
from sicnn_jax.rules import find_rule
from sicnn_jax.stages import build_stage


def _settings(name, **changes):
    config = di.get_config('demo')
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    return build_stage(config, name, Path('run')).record['settings']


MATTER = {
    'seed': 1,
    'data.flip': False,
    'data.placement': 'device',
    'domain_integrated.alpha': 0.0,
    'domain_integrated.batch_size': 8,
    'domain_integrated.steps': 81,
    'domain_integrated.optimizer.cnnh.learning_rate': 1.0,
    'domain_integrated.annealing.base': 1.0,
    'recognition_loss.a_softmax.margin': 2,
    'recognition_loss.sampled_identities': 4,
}
DO_NOT = {
    'stages': ('recognition',),
    'log_every': 1,
    'winograd': False,
    'evaluation.final_pairs': 5,
    'data.dir': '/elsewhere',
    'domain_integrated.checkpoint_every': 20,
    'domain_integrated.fused': False,
    'domain_integrated.microbatches': 2,
    'recognition_loss.split_identities': True,
    'recognition_loss.arcface.margin': 0.1,
    'recognition.steps': 3,
}


@pytest.mark.parametrize('field', [*MATTER, *DO_NOT])
def test_settings_are_what_networks_depend_on(field):
    value = (MATTER | DO_NOT)[field]
    same = _settings('domain_integrated') == _settings(
        'domain_integrated', **{field: value}
    )
    assert same == (field in DO_NOT)


def test_a_stage_does_not_depend_on_networks_and_losses_that_it_has_not():
    config = di.get_config('demo')
    stage = build_stage(config, 'recognition', Path('run'))
    same = provenance.compared(stage.record, stage.networks)
    assert [*same['models']] == ['cnnr'] and 'scale' not in same
    assert 'recognition_loss' in same['settings']
    assert 'recognition_loss' not in _settings('sr_only')


def test_a_new_field_counts():
    config = di.get_config('demo')
    with config.unlocked():
        config.data.fresh = config.sr_only.fresh = config.fresh = 1
    found = provenance.settings(config, 'sr_only', find_rule('hallucination'))
    assert found['fresh'] == found['data']['fresh'] == found['sr_only']['fresh'] == 1


RECORD = {
    'scale': 8,
    'models': {'cnnr': {'feature_dim': 8}},
    'settings': {'seed': 0, 'recognition': {'steps': 4}},
}


@pytest.fixture
def trained(tmp_path):
    params = {'cnnr': {'bias': np.ones(3, np.float32)}}
    checkpoint.save_networks(tmp_path / 'recognition', params, RECORD)
    return tmp_path / 'recognition'


def _other(**settings):
    return RECORD | {'settings': RECORD['settings'] | settings}


def test_what_differs_is_refused_with_both_values_and_the_ways_out(trained):
    provenance.admit(trained, RECORD)
    # Written before there was such a field, or such a part.
    provenance.admit(trained, _other(fresh=1) | {'init': {'cnnr': ''}})
    other = _other(recognition={'steps': 9}, seed=5)
    for changed in ('refuse', 'continue'):
        with pytest.raises(CheckpointError) as caught:
            provenance.admit(trained, other, changed)
        for part in (
            f'{trained} was made with config.seed = 0; expected 5, and with '
            'config.recognition.steps = 4; expected 9.',
            'another --workdir',
            '--changed=anew',
        ):
            assert part in str(caught.value)
        assert 'changed=continue' not in str(caught.value)
    with pytest.raises(CheckpointError, match=r'config\.recognition\.checkpoint='):
        provenance.admit_earlier(trained, other)


def test_it_may_be_set_aside(trained, capsys):
    (trained.parent / 'recognition.before').mkdir()
    provenance.admit(trained, _other(seed=5), 'anew')
    assert 'config.seed: set aside as' in capsys.readouterr().out
    names = sorted(path.name for path in trained.parent.iterdir())
    assert names == ['recognition.before', 'recognition.before-2']
    assert checkpoint.has_networks(trained.parent / 'recognition.before-2')


def test_config_json_keeps_the_stages_that_were_trained(trained):
    run, first = trained.parent, di.get_config('demo')
    first.recognition.steps = 4
    first.recognition.optimizer.cnnr.learning_rate = 7.0
    workdir.write_config(first, run)
    second = di.get_config('demo')
    second.stages = ('hallucination', 'mine')
    second.mine = second.hallucination
    merged = workdir.with_earlier_stages(second, run)
    # That which was not finished is not kept.
    assert merged.stages == ('recognition', 'hallucination', 'mine')
    assert merged.recognition.steps == 4
    assert merged.recognition.optimizer.cnnr.learning_rate == 7.0
    assert second.recognition.steps == 1_600
    assert merged.hallucination == second.hallucination
    assert workdir.with_earlier_stages(second, run / 'new') == second
