"""The configs say what the paper says, and fit together."""

import pytest
from ml_collections import ConfigDict

from configs import (
    approaches,
    cnnh,
    cnnr,
    di,
    judge,
    lapsrn,
    lfw,
    orl,
    position_patch,
    real,
    ur_dgn,
)
from sicnn_jax.config import check
from sicnn_jax.evaluation import methods
from sicnn_jax.stages import build_stage

COMPARED = (lapsrn, position_patch, ur_dgn)
WITH_VARIANTS = (di, approaches, real, *COMPARED)
SHIPPED = {
    **{
        f'{module.__name__}:{variant}': module.get_config(variant)
        for module in WITH_VARIANTS
        for variant in module.VARIANTS
    },
    **{
        module.__name__: module.get_config() for module in (cnnr, cnnh, judge, lfw, orl)
    },
}


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


def _sections(config, path='config'):
    """Every section of a config by its path."""
    yield path, config
    for field, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _sections(value, f'{path}.{field}')


@pytest.mark.parametrize('name', SHIPPED)
def test_no_two_paths_are_one_object(name):
    """Else what is set in one place is set in another, too."""
    sections = list(_sections(SHIPPED[name]))
    places: dict[int, list[str]] = {}
    for path, section in sections:
        places.setdefault(id(section), []).append(path)
    assert not [paths for paths in places.values() if len(paths) > 1]


@pytest.mark.parametrize('name', SHIPPED)
def test_boundaries_are_where_the_paper_has_them_as_a_share_of_the_steps(name):
    paper = {
        'recognition': (20 / 35, 30 / 35),
        'hallucination': (30 / 80, 60 / 80),
    }
    config = SHIPPED[name]
    for stage in config.stages:
        for network, optimizer in config[stage].optimizer.items():
            if optimizer.schedule != 'steps':
                continue
            # Approach I takes the schedules of the stages that it replaces.
            steps = config[stage].steps
            if stage == 'approach_i':
                first = 'hallucination' if network == 'cnnh' else 'recognition'
                steps, expected = config[first].steps, paper[first]
            else:
                expected = paper.get(stage, (6 / 9,))
            found = [boundary / steps for boundary in optimizer.boundaries]
            assert found == pytest.approx(expected, abs=1e-3), (stage, network)


@pytest.mark.parametrize('name', SHIPPED)
def test_every_config_fits_together(name, tmp_path):
    config = SHIPPED[name].copy_and_resolve_references()
    # lfw.py, orl.py and real.py leave it to the command line.
    config.data.dir = 'faces'
    taught = config.get('recognition', {}).get('update_rule') == 'distillation'
    config.data.targets = 'targets' if taught else ''
    if config.cnnr.kind == 'onnx':
        pytest.importorskip('onnx')
        from tests.models.test_onnx_recogniser import small_network

        config.cnnr.file = str(small_network(tmp_path / 'network.onnx'))
    assert not check.find_problems(config)


@pytest.mark.parametrize('variant', di.VARIANTS)
@pytest.mark.parametrize('module', COMPARED)
def test_compared_methods_have_the_data_and_the_budget_of_sicnn(module, variant):
    config, sicnn = module.get_config(variant), di.get_config(variant)
    for section in ('data', 'cnnr', 'recognition', 'evaluation', 'scale', 'seed'):
        assert config[section] == sicnn[section], section
    (method,) = methods.compared_stages(config).values()
    assert config.stages[-1] == method
    if module is position_patch:
        return
    for ours, theirs in (('hallucination', 'hallucination'), (method, 'sr_only')):
        for field in ('steps', 'batch_size', 'data_seed', 'evaluate_every'):
            assert config[ours][field] == sicnn[theirs][field], field
        assert config[ours].optimizer.cnnh == sicnn[theirs].optimizer.cnnh
    assert config[method].init.cnnh == 'hallucination'


@pytest.mark.parametrize('size', di.VARIANTS)
def test_ur_dgn_star_differs_by_the_perceptual_loss_only(size):
    plain = ur_dgn.get_config(size)
    starred = ur_dgn.get_config(f'{size}_perceptual'.lstrip('_'))
    for method, star in (
        ('hallucination', 'hallucination'),
        ('ur_dgn', 'ur_dgn_perceptual'),
    ):
        assert starred[star].perceptual_weight > 0
        starred[star].perceptual_weight = 0.0
        starred[star].init.cnnr = ''
        assert starred[star] == plain[method]


@pytest.mark.parametrize('module', [di, *COMPARED])
def test_unknown_variant_names_the_choices(module):
    with pytest.raises(ValueError, match='small, light, demo, real'):
        module.get_config('large')


@pytest.mark.parametrize('variant', di.VARIANTS)
def test_algorithm_1_is_two_programs_but_where_it_is_fused(variant, tmp_path):
    config = di.get_config(variant)
    config.seed = 3
    stage = build_stage(config, 'domain_integrated', tmp_path)
    fused = variant in ('light', 'demo', 'real')
    assert len(stage.rule.iteration(fused=stage.config.fused)) == 2 - fused
    assert stage.recipe.seed == 3
    # Every other rule has one program, and nothing to fuse.
    assert [name for name in config.stages if 'fused' in config[name]] == [stage.name]
