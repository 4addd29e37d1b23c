import dataclasses
import json

import pytest

from sicnn_jax.reproduction import experiments
from sicnn_jax.reproduction.experiments import Cache, Run

DEMO = 'configs/di.py:demo'
FIRST = Run('first', DEMO, (('seed', 1),))
SECOND = Run(
    'second',
    DEMO,
    (('stages', ('recognition', 'domain_integrated')),),
    (('recognition', FIRST),),
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Runs end at once; `called` has their commands."""
    cache, called = Cache(tmp_path / 'cache'), []

    def call(module, *arguments):
        called.append((module, *arguments))
        for argument in arguments:
            if argument.startswith('--workdir='):
                workdir = tmp_path / argument.removeprefix('--workdir=')
                workdir.mkdir(parents=True)
                (workdir / 'results.json').write_text('{}')

    monkeypatch.setattr(experiments, '_call', call)
    cache.called = called
    return cache


def test_key_depends_on_what_makes_a_run_and_not_on_its_name():
    keys = {
        run.key
        for run in (
            FIRST,
            dataclasses.replace(FIRST, overrides=(('seed', 2),)),
            dataclasses.replace(FIRST, config='configs/di.py:small'),
            SECOND,
            dataclasses.replace(
                SECOND,
                given=(('recognition', dataclasses.replace(FIRST, overrides=())),),
            ),
            dataclasses.replace(FIRST, faces=(SECOND, 'domain_integrated')),
            dataclasses.replace(FIRST, faces=(None, '')),
        )
    }
    assert len(keys) == 7
    assert dataclasses.replace(FIRST, name='another').key == FIRST.key
    assert dataclasses.replace(FIRST, overrides=(('seed', '1'),)).key == FIRST.key


def test_runs_are_trained_after_what_they_need_and_once(cache):
    assert cache.missing([SECOND, FIRST, SECOND]) == [FIRST, SECOND]
    for run in cache.missing([SECOND]):
        cache.train(run)
    assert cache.missing([FIRST, SECOND]) == []
    (_, *first), (_, *second) = cache.called
    assert f'--config={DEMO}' in first and '--config.seed=1' in first
    given = cache.directory(FIRST) / 'recognition'
    assert f'--config.recognition.checkpoint={given}' in second


def test_embedded_faces_are_shared(cache):
    assert cache.data(FIRST).dir == str(cache.root / 'data')
    own = dataclasses.replace(FIRST, overrides=(('data.dir', 'faces'),))
    assert cache.data(own).dir == 'faces'


def test_super_resolved_faces_are_made_before_they_are_trained_on(cache):
    run = dataclasses.replace(
        FIRST,
        overrides=(('stages', ('recognition',)),),
        faces=(SECOND, 'domain_integrated'),
    )
    assert cache.missing([run]) == [FIRST, SECOND, run]
    cache.train(run)
    (prepare, *arguments), (_, *training) = cache.called
    assert prepare == 'sicnn_jax.data.prepare'
    cnnh = cache.directory(SECOND) / 'domain_integrated'
    assert f'--checkpoint={cnnh}' in arguments and '--degrade=8' in arguments
    assert f'--config.data.dir={cache.directory(run) / "faces"}' in training


def test_faces_that_are_rendered_cannot_be_super_resolved(cache):
    run = Run('faces', 'configs/di.py:small', faces=(None, ''))
    with pytest.raises(ValueError, match=r'procedural.*records'):
        cache.train(run)


def test_time_is_estimated_from_what_was_trained(cache):
    (unknown,) = experiments.describe(cache, [SECOND])
    assert 'known once' in unknown and '80 steps' in unknown
    stage = cache.directory(FIRST) / 'domain_integrated'
    stage.mkdir(parents=True)
    config = {'stages': [stage.name], 'data': {}, 'scale': 8}
    config |= {stage.name: {'update_rule': 'domain_integrated'}}
    (stage.parent / 'config.json').write_text(json.dumps(config))
    (stage / 'metrics.jsonl').write_text('{"step": 20, "images_per_second": 10.0}\n')
    line, total = experiments.describe(cache, [SECOND])
    # 80 steps of 16 faces.
    assert '0:02:08' in line and '0:02:08' in total


def test_a_run_that_fails_is_named():
    with pytest.raises(RuntimeError, match=r'sicnn_jax\.no_such_module'):
        experiments._call('sicnn_jax.no_such_module')
