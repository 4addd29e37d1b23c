"""Everything that is wrong with a config is said at once."""

import pytest
from ml_collections import ConfigDict

from configs import di, real, ur_dgn
from sicnn_jax.config import ConfigError, check, fields, schema
from sicnn_jax.config.load import load


def _problems(changes):
    config = di.get_config('demo')
    for path, value in changes.items():
        *above, field = path.split('.')
        section = config
        for name in above:
            section = section[name]
        # As a config file may: a field that is not there is added.
        with section.ignore_type():
            section[field] = value
    return check.find_problems(config)


@pytest.mark.parametrize(
    ('changes', 'found'),
    [
        (
            {'data.dri': 'x'},
            'config.data.dri is unknown. Did you mean config.data.dir?',
        ),
        ({'recogniton': 3}, 'Did you mean config.recognition?'),
        ({'sr_only.stpes': 3}, 'Did you mean config.sr_only.steps?'),
        (
            {'sr_only.optimizer.cnnh.clipp': 3.0},
            'Did you mean config.sr_only.optimizer.cnnh.clip?',
        ),
        ({'recognition.steps': '100'}, "config.recognition.steps is '100'"),
        ({'domain_integrated.fused': 1}, 'integrated.fused is 1; expected True or'),
        ({'recognition.fused': True}, 'config.recognition.fused is unknown'),
        ({'recognition.alpha': 8.0}, 'config.recognition.alpha is unknown'),
        ({'sr_only.update_rule': 'gan'}, "sr_only.update_rule is 'gan'; expected one"),
        ({'cnnr.widths': (16.5,)}, 'config.cnnr.widths is (16.5,); expected a tuple'),
        ({'seed': None}, 'config.seed is None; expected an integer such as 0'),
        ({'cnnh': 3}, 'config.cnnh is 3; expected a section'),
        ({'scale': 6}, 'config.scale is 6; expected one of 8, 4'),
        ({'log_every': 0}, 'config.log_every is 0'),
        ({'stages': ('recognitoin',)}, 'Did you mean recognition?'),
        ({'stages': ()}, 'config.stages is empty'),
        ({'sr_only.init.cnnh': 'halucination'}, 'Did you mean hallucination?'),
        ({'recognition.optimizer.cnnr.name': 'adm'}, 'recognition.optimizer.cnnr: opt'),
        ({'recognition.annealing.base': -1.0}, 'recognition: annealing_schedule: base'),
        ({'data.on_error': 'ignore'}, "data.on_error is 'ignore'"),
        ({'data.max_error_share': 1.0}, 'data.max_error_share is 1.0'),
        ({'data.misalignment': 1.5}, 'data.misalignment is 1.5'),
        (
            {'data.misalignment': 0.5, 'data.source': 'records', 'data.dir': 'x'},
            'are as they were prepared',
        ),
        ({'cnnh.deconv_kernels': (3, 5)}, 'expected 3 sizes, one for each doubling'),
        ({'cnnh.deconv_kernels': (3, 5, 1)}, 'of 2 or more'),
        ({'cnnh.width': (8, 8, 8)}, 'expected one number, or 4 of them'),
        ({'cnnh.depth': (8, 8, 8, 8)}, 'expected one number, or 3 of them'),
        ({'cnnh.growth': (8, 8, 8, 0)}, 'cnnh.growth is (8, 8, 8, 0); expected at lea'),
        ({'cnnh.growth': 'x'}, "'x'; expected an integer or a tuple of integers such"),
        ({'cnnh.growth': (1, 'x')}, 'expected an integer or a tuple of integers'),
        (
            {'data.rotation': 90.0},
            'data.rotation is 90.0; expected at least 0 and less',
        ),
        ({'data.contrast': -0.1}, 'data.contrast is -0.1; expected at least 0'),
        ({'sr_only.identity_blur': -1.0}, 'blur is -1.0; it must not be negative'),
        ({'sr_only.identity_loss': 'cosine'}, "sr_only.identity_loss is 'cosine'"),
        # Found by benchmarks/drills/fuzz.py, from here on.
        ({'stages': (2**31,)}, 'config.stages is (2147483648,); expected a tuple'),
        ({'stages': None}, 'config.stages is None; expected a tuple such as'),
        ({'recognition.optimizer.cnnr.boundaries': ('x',)}, 'such as (1,)'),
        ({'sr_only.optimizer.cnnh': 2}, 'optimizer.cnnh is 2; expected a section'),
        ({'sr_only.optimizer': 2}, 'sr_only.optimizer is 2; expected a section'),
        (
            {'sr_only.optimizer.cnnh.weight_decay': float('inf')},
            'is inf; expected fini',
        ),
        ({'sr_only.alpha': float('nan')}, 'sr_only.alpha is nan; expected finite num'),
        ({'cnnh.deconv_kernels': (-2, 3, 5)}, 'integers from 0 to 4294967295'),
        ({'seed': 10**30}, 'integers from 0 to 4294967295'),
        (
            {'cnnr.depths': (1,)},
            'is (1,); expected one number for each of the 4 levels',
        ),
        ({'cnnh.deconv_kernels': (3, 0, 5)}, 'is (3, 0, 5); expected 3 sizes'),
        ({'cnnr.feature_dim': 0}, 'cnnr.feature_dim is 0; expected at least 1'),
        ({'cnnr.widths': ()}, 'config.cnnr.widths is (); expected a tuple such as (64'),
        ({'sr_only.init.cnnh': 'x' * 300}, 'which is not a stage, directory or file'),
        ({'sr_only.init.cnnh': 'x\0'}, 'which is not a stage, directory or file'),
    ],
)
def test_a_problem_names_the_field_and_what_was_meant(changes, found):
    (problem,) = _problems(changes)
    assert found in problem


def test_of_a_field_that_is_given_twice_the_last_value_counts():
    """absl would join the values of a tuple."""
    arguments = ['cnnr.widths=(1, 2)', 'seed=1', 'cnnr.widths=(8, 8, 8, 8)', 'seed=2']
    config = load('configs/di.py:demo', [f'--config.{a}' for a in arguments])
    assert config.cnnr.widths == (8, 8, 8, 8)
    assert config.seed == 2


def test_sizes_of_cnnh_are_one_number_or_several():
    for value in (24, (24, 24, 16, 8)):
        config = load('configs/di.py:demo', [f'--config.cnnh.width={value}'])
        assert config.cnnh.width == value


@pytest.mark.parametrize(
    'arguments',
    [
        ['recognition.optimizer.cnnr.clip=1.0', 'recognition.optimizer={"cnnr": 3}'],
        ['cnnh={"a": 1}', 'cnnh.width=3'],
    ],
)
def test_a_section_and_one_of_its_fields(arguments):
    """Found by benchmarks/drills/fuzz.py."""
    with pytest.raises(ConfigError, match='contradict each other'):
        load('configs/di.py:demo', [f'--config.{a}' for a in arguments])


def test_fields_that_none_turns_off_and_integers_for_numbers_are_fine():
    assert not _problems(
        {
            'cnnr.init_std': None,
            'cnnr.depths': (0, 0, 0, 0),
            'domain_integrated.alpha': 1,
            'cnnr.widths': [8, 8, 8, 8],
        }
    )


def test_a_missing_field_is_named():
    config = di.get_config('demo')
    del config.data['source']
    del config.sr_only['steps']
    problems = check.find_problems(config)
    assert [problem.split(';')[0] for problem in problems] == [
        'config.sr_only.steps is missing',
        'config.data.source is missing',
    ]


def test_all_problems_are_listed():
    problems = _problems(
        {'data.dri': 'x', 'recognition.steps': 'y', 'scale': 5, 'log_every': 7}
    )
    with pytest.raises(ConfigError) as caught:
        check.refuse(problems)
    text = str(caught.value)
    for field in ('data.dri', 'recognition.steps', 'config.scale', 'checkpoint_every'):
        assert field in text
    assert text.startswith(f'{len(problems)} things are wrong')


def test_a_network_of_another_kind_has_its_own_fields():
    config = di.get_config('demo')
    config.cnnh = {'kind': 'other', 'layers': 3}
    problems, mended = fields.field_problems(config)
    assert not problems
    assert mended.cnnh.layers == 3


def _with(name, **fields):
    """The demo with one more stage, like its control."""
    config = di.get_config('demo')
    config[name] = ConfigDict({**config.sr_only, **fields})
    config.stages = (*config.stages, name)
    return config


def test_an_unknown_rule_is_the_only_problem_of_its_stage():
    config = _with('mine', update_rule='gan', stpes=3)
    (problem,) = check.find_problems(config)
    assert "mine.update_rule is 'gan'; expected one of recognition" in problem


def test_a_rule_with_a_discriminator_needs_its_section():
    config = _with('mine', **ur_dgn.get_config('demo').ur_dgn)
    (problem,) = check.find_problems(config)
    assert 'config.discriminator is missing' in problem


def test_a_network_that_is_not_trained_has_no_optimiser():
    """It would be taken for what the stage makes."""
    config = di.get_config('demo')
    config.recognition.optimizer.cnnh = schema.optimizer('adam', 0.1)
    (problem,) = check.find_problems(config)
    assert 'recognition.optimizer.cnnh is of a network that the rule' in problem


def test_no_stage_has_the_name_of_another_method():
    (problem,) = check.find_problems(_with('sicnn'))
    assert "config.sicnn: 'sicnn' is the name of other faces" in problem


def test_a_stage_that_is_taught_needs_targets():
    config = real.get_config('distilled')
    config.data.dir = 'faces'
    problems = check.find_problems(config)
    assert len(problems) == 2
    assert 'config.data.targets is empty, but config.recognition' in problems[0]
    # One that is given is not taught again.
    config.recognition.checkpoint = 'runs/taught'
    config.stages = ('recognition',)
    assert not check.find_problems(config)


def test_several_steps_in_one_program_leave_out_what_is_fitted():
    config = real.get_config('distilled')
    config.update({'steps_per_dispatch': 2, 'stages': ('taught_integrated',)})
    config.data.update({'dir': 'faces', 'targets': 'targets'})
    (problem,) = check.find_problems(config)
    assert 'set config.taught_integrated.fused to True' in problem
    config.taught_integrated.fused = True
    assert not check.find_problems(config)
    config = real.get_config('dlib')
    config.update({'steps_per_dispatch': 2, 'stages': ('recognition',)})
    config.data.dir = 'faces'
    assert not check.find_problems(config)


@pytest.mark.parametrize(
    ('activations', 'found'),
    [
        ((0, 3), "of dlib's network, 1 to 5"),
        (('conv',), "of dlib's network, 1 to 5"),
        (
            (),
            'perceptual_weight is 300.0, but config.cnnr.activations names nothing',
        ),
    ],
)
def test_what_the_perceptual_loss_compares_is_there(activations, found):
    config = real.get_config('dlib')
    config.data.dir = 'faces'
    with config.cnnr.ignore_type():
        config.cnnr.activations = activations
    (problem,) = check.find_problems(config)
    assert found in problem
