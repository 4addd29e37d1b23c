"""LapSRN, UR-DGN and position patches: who learns from what, and whole tiny runs."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from configs import lapsrn, position_patch, ur_dgn
from sicnn_jax import (
    algorithm,
    checkpoint,
    compared_steps,
    images,
    inference,
    losses,
    metrics,
    parallel,
    train,
)
from sicnn_jax.descent import AXIS, finite_networks
from sicnn_jax.evaluation import compare
from sicnn_jax.inference import Hallucinator
from sicnn_jax.models import CNNR, URDGN, Discriminator, LapSRN
from sicnn_jax.recipe import Recipe
from sicnn_jax.rules import find_rule
from sicnn_jax.train_state import TrainState
from tests.tiny_training import RUNS_LONG


def _faces(count=16):
    """'Faces' that LR tells by their colour alone: their patterns have to be known."""
    rng = np.random.default_rng(0)
    tiles = rng.choice([-40.0, 40.0], (count, 4, 4, 1))
    tiles -= tiles.mean((1, 2), keepdims=True)
    colours = rng.uniform(70, 180, (count, 1, 1, 3))
    hr = np.rint(colours + np.tile(tiles, (1, 28, 24, 1))).astype(np.uint8)
    return {'hr': hr, 'label': np.arange(count, dtype=np.int32)}


def _pairs(batch):
    lr = images.degrade(batch['hr'], scale=4)
    return images.to_float(lr), images.to_float(batch['hr'])


def _recipe(cnnh, optimizer=None, **settings):
    return Recipe(
        cnnr=CNNR(widths=(2, 2, 2, 3), depths=(1, 1, 1, 1), feature_dim=4),
        cnnh=cnnh,
        optimizers=dict.fromkeys(('cnnh', 'discriminator'), optimizer or optax.sgd(1)),
        recognition_loss=losses.recognition_loss('a_softmax', margin=4),
        annealing=losses.annealing_schedule(),
        scale=4,
        discriminator=Discriminator(widths=(2, 3), kernel_size=3),
        **settings,
    )


def _draw(model, size):
    """Parameters without compiling what would initialise them."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *size, 3)))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(leaf.dtype), shapes['params']
    )


def _params(recipe):
    return {
        'cnnr': _draw(recipe.cnnr, (112, 96)),
        'cnnh': _draw(recipe.cnnh, (28, 24)),
        'discriminator': _draw(recipe.discriminator, (112, 96)),
    }


def _mapped(function, compiler_options=None):
    """A jitted function of a state or parameters, with the named axis of a device."""
    return jax.jit(
        lambda x: jax.tree.map(
            lambda leaf: leaf[0],
            jax.vmap(lambda _: function(x), axis_name=AXIS)(jnp.zeros(1)),
        ),
        compiler_options=compiler_options,
    )


def _step(recipe, params, rule, batch, count=1):
    """The state after some iterations on one batch, and the last metrics."""
    rule = find_rule(rule)
    (program,) = rule.iteration()
    names = (*rule.trains, *rule.frozen(recipe.weights))
    networks = {name: params[name] for name in names}
    state = TrainState.create(networks, recipe.optimizers)
    # Not in one program: XLA's convolutions are slower by five in a loop on a CPU.
    options = RUNS_LONG if count > 1 else None
    iterate = _mapped(lambda state: program(recipe, state, batch), options)
    for _ in range(count):
        state, found = iterate(state)
    return jax.device_get((state, found))


TINY = URDGN(scale=4, widths=(2, 2, 2), kernel_size=3)


def test_ur_dgn_star_updates_generator_and_discriminator_and_no_cnnr():
    recipe = _recipe(
        TINY, optax.sgd(1e-3), weights={'adversarial': 100.0, 'perceptual': 50.0}
    )
    params, batch = _params(recipe), _faces(4)
    state, found = _step(recipe, params, 'adversarial', batch)
    for name in ('cnnh', 'discriminator'):
        assert found[f'{name}_gradient_norm'] > 0
    np.testing.assert_equal(state.params['cnnr'], params['cnnr'])
    assert set(state.networks) == {'cnnh', 'discriminator', 'cnnr'}
    assert state.step == 1 and all(finite_networks(found).values())

    @jax.jit
    def expected(params, updated, lr, hr):
        sr = TINY.apply({'params': params['cnnh']}, lr)

        def logits(params, faces):
            return recipe.discriminator.apply({'params': params}, faces)

        def activations(faces):
            return recipe.cnnr.activate(params['cnnr'], faces)

        before = params['discriminator']
        return {
            'super_resolution_loss': losses.super_resolution_loss(sr, hr),
            'discriminator_loss': losses.discriminator_loss(
                logits(before, hr), logits(before, sr)
            ),
            # The generator meets the discriminator that was just updated.
            'adversarial_loss': losses.generator_loss(logits(updated, sr)),
            'perceptual_loss': losses.perceptual_loss(activations(sr), activations(hr)),
        }

    for name, value in expected(
        params, state.params['discriminator'], *_pairs(batch)
    ).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


def test_no_gradient_crosses_between_generator_discriminator_and_cnnr():
    """By differentiating each whole update with respect to the other networks."""
    recipe = _recipe(TINY, weights={'adversarial': 100.0, 'perceptual': 50.0})
    params, batch = _params(recipe), _faces(4)
    lr, hr = (
        images.to_float(x) for x in (images.degrade(batch['hr'], scale=4), batch['hr'])
    )

    def generator(others):
        state = TrainState.create(params | others, recipe.optimizers)
        _, found = algorithm.update_cnnh(recipe, state, lr, hr)
        return found['adversarial_loss'] + found['perceptual_loss']

    def discriminator(others):
        sr = TINY.apply({'params': others['cnnh']}, lr)
        state = TrainState.create(params, recipe.optimizers)
        _, found = compared_steps.update_discriminator(recipe, state, sr, hr)
        return found['discriminator_loss']

    for update, others in (
        (generator, ('cnnr', 'discriminator')),
        (discriminator, ('cnnh',)),
    ):
        gradient = jax.jit(jax.grad(_mapped(update)))(
            {name: params[name] for name in others}
        )
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_weights_that_are_zero_need_no_network():
    for rule, perceptual, networks in (
        ('adversarial', 0.0, {'cnnh', 'discriminator'}),
        ('hallucination', 0.0, {'cnnh'}),
        ('hallucination', 1.0, {'cnnh', 'cnnr'}),
    ):
        rule = find_rule(rule)
        frozen = rule.frozen({'super_identity': 0.0, 'perceptual': perceptual})
        assert {*rule.trains, *frozen} == networks


def test_lapsrn_is_held_against_hr_at_every_level():
    recipe = _recipe(LapSRN(scale=4, width=2, depth=1))
    params, batch = _params(recipe), _faces(4)
    state, found = _step(recipe, params, 'pyramid', batch)
    lr, hr = _pairs(batch)
    half = images.to_float(images.degrade(batch['hr'], scale=2))
    apply = jax.jit(functools.partial(recipe.cnnh.apply, method='pyramid'))
    levels = apply({'params': params['cnnh']}, lr)
    expected = [
        losses.charbonnier_loss(level, original)
        for level, original in zip(levels, (half, hr), strict=True)
    ]
    np.testing.assert_allclose(found['charbonnier_loss'], sum(expected), rtol=1e-4)
    assert set(state.networks) == {'cnnh'}


@pytest.mark.parametrize(
    ('cnnh', 'rule', 'weight', 'rate'),
    [
        (LapSRN(4, width=12, depth=1, init_std=0.5), 'pyramid', 0.0, 1e-2),
        (URDGN(4, widths=(12, 12, 12), kernel_size=3), 'adversarial', 3.0, 5e-3),
    ],
)
def test_it_memorises_16_faces(cnnh, rule, weight, rate):
    recipe = _recipe(cnnh, optax.adam(rate), weights={'adversarial': weight})
    batch = _faces()
    lr, _ = _pairs(batch)
    fresh = jax.jit(cnnh.init)(jax.random.key(0), lr)['params']
    params = _params(recipe) | {'cnnh': fresh}
    state, _ = _step(recipe, params, rule, batch, count=60)
    small = inference.degrade_faces(batch['hr'], scale=4, kind='bicubic')
    sr = inference.super_resolve(cnnh, state.params['cnnh'], small)
    # Bicubic has the colours, and none of the patterns.
    bicubic = metrics.psnr(inference.enlarge_faces(small), batch['hr']).mean()
    assert metrics.psnr(sr, batch['hr']).mean() > bicubic + 2


def _tiny(get_config, variant, given):
    """A demo config, shrunk until a stage takes seconds."""
    config = get_config(variant)
    config.scale = 4
    config.data.dir = str(given / 'data')
    config.recognition.checkpoint = str(given / 'recognition')
    config.data.identities = 4
    config.data.images_per_identity = 4
    config.data.test_identities = 3
    config.data.test_images_per_identity = 4
    config.cnnr.widths = (2, 2, 2, 3)
    config.cnnr.depths = (1, 1, 1, 1)
    config.cnnr.feature_dim = 4
    if 'discriminator' in config:
        config.discriminator.widths = (2, 3)
    sizes = {
        'lapsrn': {'width': 2, 'depth': 1},
        'ur_dgn': {'widths': (2, 2, 2), 'kernel_size': 3},
        'position_patch': {'num_faces': 40},
    }
    config.cnnh.update(sizes[config.cnnh.kind])
    config.log_every = 2
    config.evaluation.faces = 12
    config.evaluation.pairs = 20
    config.evaluation.final_pairs = 20
    config.evaluation.pictures = 2
    for name in config.stages:
        if config[name].update_rule != 'fit':
            config[name].steps = 4
            config[name].evaluate_every = 4
            config[name].checkpoint_every = 2
    return config


@pytest.fixture(scope='module')
def given(tmp_path_factory):
    """A directory with faces and an untrained CNNR, which every run is given."""
    directory = tmp_path_factory.mktemp('given')
    with pytest.MonkeyPatch.context() as patch:
        # Eight of them compile eight programs.
        patch.setattr(parallel, 'local_devices', lambda: jax.devices()[:1])
        config = _tiny(lapsrn.get_config, 'demo', directory)
        stage = train.build_stage(config, 'recognition', directory)
        cnnr = {'cnnr': _draw(stage.recipe.cnnr, (112, 96))}
        checkpoint.save_networks(directory / 'recognition', cnnr, stage.record)
        yield directory


def test_position_patches_are_fitted_and_evaluated(given, tmp_path, capsys):
    config, workdir = _tiny(position_patch.get_config, 'demo', given), tmp_path
    train.run(config, workdir)
    results = compare.run(config, workdir, judge=str(given / 'recognition'))
    rows = {row['method']: row for row in results['rows']}
    assert list(rows) == ['hr', 'bicubic', 'ma']
    assert (workdir / 'samples.png').is_file()
    line = json.loads((workdir / 'ma' / 'metrics.jsonl').read_text())
    assert line['step'] == 1 and line['psnr'] == pytest.approx(rows['ma']['psnr'])
    assert (workdir / 'ma' / 'samples' / '0000001.png').is_file()
    # Forty of sixteen faces: each comes again in another epoch.
    params, record = checkpoint.load_networks(workdir / 'ma')
    assert params['cnnh']['hr'].shape == (40, 112, 96, 3)
    assert record['models']['cnnh']['kind'] == 'position_patch'
    train.run(config, workdir)
    assert capsys.readouterr().out.count('finished already') == 1


def test_ur_dgn_star_trains_resumes_and_is_evaluated(given, tmp_path):
    config = _tiny(ur_dgn.get_config, 'demo_perceptual', given)
    config.stages = ('recognition', 'ur_dgn_perceptual')
    begun = config.ur_dgn_perceptual.init.copy_and_resolve_references()
    config.ur_dgn_perceptual.init.update(cnnh='', discriminator='')
    train.run(config, tmp_path)
    recipe = tmp_path / 'ur_dgn_perceptual'
    lines = [json.loads(line) for line in (recipe / 'metrics.jsonl').open()]
    assert [line['step'] for line in lines] == [2, 4]
    for field in (
        'super_resolution_loss',
        'adversarial_loss',
        'perceptual_loss',
        'discriminator_loss',
        'psnr',
        'identity_similarity',
    ):
        assert np.isfinite(lines[-1][field]), field

    whole, _ = checkpoint.load_networks(recipe)
    shutil.rmtree(recipe / 'final')
    shutil.rmtree(recipe / 'last' / '4')
    train.run(config, tmp_path)
    resumed, record = checkpoint.load_networks(recipe)
    # CNNR, which the stage only reads, is stored where it is from.
    assert set(resumed) == {'cnnh', 'discriminator'}
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert record['models']['discriminator']['widths'] == [2, 3]

    results = compare.run(config, tmp_path, judge=str(given / 'recognition'))
    methods = [row['method'] for row in results['rows']]
    assert methods == ['hr', 'bicubic', 'ur_dgn_perceptual']
    lr = np.zeros((1, 28, 24, 3), np.uint8)
    assert Hallucinator(tmp_path)(lr).shape == (1, 112, 96, 3)

    # What the config has it begin with: both networks of the stage before.
    config.ur_dgn_perceptual.init.update(begun)
    config.hallucination.checkpoint = str(recipe)
    stage = train.build_stage(config, 'ur_dgn_perceptual', tmp_path)
    faces = train.dataset.open_faces(config.data, tmp_path)
    state = train.initial_state(config, stage, faces)
    begins = {name: state.params[name] for name in resumed}
    jax.tree.map(np.testing.assert_array_equal, begins, resumed)


def test_lapsrn_trains(given, tmp_path):
    config = _tiny(lapsrn.get_config, 'demo', given)
    config.stages = ('lapsrn',)
    config.lapsrn.init.cnnh = ''
    train.run(config, tmp_path)
    (_, line) = (tmp_path / 'lapsrn' / 'metrics.jsonl').open()
    assert np.isfinite(json.loads(line)['charbonnier_loss'])
    assert set(checkpoint.load_networks(tmp_path / 'lapsrn')[0]) == {'cnnh'}


@pytest.mark.parametrize(
    ('get_config', 'change', 'message'),
    [
        (lapsrn.get_config, {'cnnh.kind': 'cnnh'}, "to be lapsrn, but it is 'cnnh'"),
        (lapsrn.get_config, {'cnnh.kind': 'vdsr'}, 'expected one of cnnh, lapsrn'),
        (lapsrn.get_config, {'lapsrn.update_rule': 'fit'}, 'be position_patch'),
        (ur_dgn.get_config, {'ur_dgn.update_rule': 'pyramid'}, 'needs config.cnnh'),
        (ur_dgn.get_config, {'ur_dgn.adversarial_weight': 0.0}, 'more than 0'),
        (ur_dgn.get_config, {'ur_dgn.perceptual_weight': 1.0}, "init has no 'cnnr'"),
        (ur_dgn.get_config, {'discriminator.depth': 1}, 'discriminator has the field'),
        (position_patch.get_config, {'ma.steps': 2}, 'ma.steps is 2; expected 1'),
        (position_patch.get_config, {'ma.update_rule': 'pyramid'}, 'to be lapsrn'),
        (ur_dgn.get_config, {'ur_dgn.optimizer': ConfigDict()}, 'has no entry for'),
        (
            position_patch.get_config,
            {'ma.update_rule': 'hallucination'},
            'is not trained',
        ),
    ],
)
def test_a_config_that_does_not_fit_is_an_error(get_config, change, message, tmp_path):
    config = get_config('demo')
    for field, value in change.items():
        section, name = field.split('.')
        with config.unlocked():
            config[section][name] = value
    with pytest.raises(ValueError, match=message):
        for name in config.stages:
            train.build_stage(config, name, tmp_path)
