"""The configs say what the paper says, and fit together."""

import pytest

from configs import cnnh, cnnr, di, judge, lfw, orl
from sicnn_jax import main, train


def test_the_paper_is_that_of_section_4_1():
    config = di.get_config()
    recognition, hallucination = config.recognition, config.hallucination
    third = config.domain_integrated
    assert (recognition.steps, recognition.batch_size) == (35_000, 512)
    assert recognition.optimizer.cnnr.learning_rate == 0.1
    assert recognition.optimizer.cnnr.boundaries == (20_000, 30_000)
    assert config.recognition_loss.a_softmax.margin == 4
    assert (hallucination.steps, hallucination.batch_size) == (80_000, 128)
    assert hallucination.optimizer.cnnh.learning_rate == 0.02
    assert hallucination.optimizer.cnnh.boundaries == (30_000, 60_000)
    assert (third.steps, third.batch_size, third.alpha) == (9_000, 128, 8.0)
    assert third.optimizer.cnnh.learning_rate == 0.01
    assert third.optimizer.cnnh.boundaries == (6_000,)
    assert config.data.identities == 17_680


@pytest.mark.parametrize('variant', di.VARIANTS)
def test_the_control_differs_from_sicnn_by_its_losses_only(variant):
    config = di.get_config(variant)
    control, sicnn = config.sr_only, config.domain_integrated
    for field in ('steps', 'batch_size', 'data_seed', 'loss_scale'):
        assert control[field] == sicnn[field]
    assert control.init.cnnh == sicnn.init.cnnh == 'hallucination'
    assert control.optimizer.cnnh == sicnn.optimizer.cnnh
    assert control.alpha == 0 < sicnn.alpha


@pytest.mark.parametrize(
    'config',
    [
        *(di.get_config(variant) for variant in di.VARIANTS),
        cnnr.get_config(),
        cnnh.get_config(),
        judge.get_config(),
        lfw.get_config(),
        orl.get_config(),
    ],
)
def test_every_config_fits_together(config, tmp_path):
    # lfw.py and orl.py leave it to the command line.
    config.data.dir = 'faces'
    assert not main.config_problems(config)
    assert len(train.check(config, tmp_path)) == len(config.stages)


def test_unknown_variant_names_the_choices():
    with pytest.raises(ValueError, match='small, demo'):
        di.get_config('large')
