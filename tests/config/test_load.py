"""Where configs are found, how fields are set, how often a file is executed."""

import dataclasses
import subprocess
import sys

import jax.numpy as jnp
import pytest

from sicnn_jax import terms
from sicnn_jax.config import ConfigError, find
from sicnn_jax.config.load import execute, load
from sicnn_jax.stages import build_stage

COUNTED = """
from pathlib import Path
from configs import di

with Path({log!r}).open('a') as log:
    log.write('executed\\n')


def get_config():
    return di.get_config('demo')
"""

# The command, until it would train.
BEGINS = """
from absl import app
from sicnn_jax import main, train
from sicnn_jax.config import check

checked, find_problems = [], check.find_problems


def counted(config):
    checked.append(config)
    return find_problems(config)


def stop(config, *_):
    print(f'checked {len(checked)} time(s), {config.sr_only.steps} steps')
    raise SystemExit


check.find_problems = counted
train.train_stage = stop
app.run(main.main, flags_parser=main.parse_flags)
"""


def test_files_are_found_by_path_and_by_name(tmp_path, monkeypatch):
    shipped = find.find('di:small')
    assert shipped.endswith('/configs/di.py:small')
    assert find.find('configs/di.py') == shipped.removesuffix(':small')
    monkeypatch.chdir(tmp_path)
    assert find.find('configs/di.py:small') == shipped
    (tmp_path / 'mine.py').write_text('')
    assert find.find('mine.py') == str(tmp_path / 'mine.py')


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ('dii', "no config 'dii' ships; expected one of approaches, cnnh"),
        ('yours.py', r'there is neither .*/yours\.py nor '),
        ('cnnh:small', 'has no variants'),
        ('di:large', "has no variant 'large'"),
        ('configs/common.py', 'has no function get_config'),
    ],
)
def test_what_is_not_found_says_so(value, message):
    with pytest.raises(ConfigError, match=message):
        load(value)


def test_config_files_lie_where_users_say(tmp_path, monkeypatch):
    """At home, and in a folder with a colon in its name."""
    folder = tmp_path / 'run:3'
    folder.mkdir()
    (folder / 'mine.py').write_text(COUNTED.format(log=str(tmp_path / 'log')))
    monkeypatch.setenv('HOME', str(folder))
    assert find.find('~/mine.py:demo') == f'{folder}/mine.py:demo'
    assert find.find(f'{folder}/mine.py') == f'{folder}/mine.py'
    assert execute(f'{folder}/mine.py').stages
    monkeypatch.chdir(folder)
    assert find.split(find.find('mine.py:a')) == (f'{folder}/mine.py', 'a')
    with pytest.raises(ConfigError, match='mount the bucket'):
        load('gs://bucket/mine.py:demo')


def test_fields_that_are_paths_are_read_as_flags_are(monkeypatch, tmp_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    stage = 'domain_integrated'
    config = load(
        'di:demo',
        {
            'data.dir': '~/faces',
            f'{stage}.checkpoint': '~/run/stage',
            f'{stage}.init.cnnh': '~/run/other',
            'evaluation.judge': 'dlib',
        },
    )
    assert config.data.dir == f'{tmp_path}/faces'
    assert config[stage].checkpoint == f'{tmp_path}/run/stage'
    assert config[stage].init.cnnh == f'{tmp_path}/run/other'
    assert config[stage].init.cnnr == 'recognition'
    assert config.evaluation.judge == 'dlib'
    wrong = {
        'data.targets': 'gs://bucket/targets',
        'evaluation.judge': 's3://bucket/judge.onnx',
        f'{stage}.init.cnnr': 'gs://bucket/run',
    }
    with pytest.raises(ConfigError) as raised:
        load('di:demo', wrong)
    for field in wrong:
        assert f'config.{field}: ' in str(raised.value)


def test_fields_are_set_by_name_as_on_the_command_line():
    config = load('di:demo', {'sr_only.steps': 3, 'cnnh.width': (8, 8, 8, 8)})
    assert config == load(
        'di:demo', ['--config.sr_only.steps=3', '--config.cnnh.width=(8, 8, 8, 8)']
    )
    assert config.sr_only.steps == 3 and config.cnnh.width == (8, 8, 8, 8)


def test_a_command_executes_a_config_twice_at_most_and_checks_it_once(tmp_path):
    """However many fields are set, until training begins."""
    log = tmp_path / 'log'
    (tmp_path / 'mine.py').write_text(COUNTED.format(log=str(log)))
    arguments = [
        f'--config={tmp_path / "mine.py"}',
        '--config.sr_only.steps=3',
        '--config.log_every=1',
        '--config.data.seed=2',
        '--config.data.source=procedural',
    ]
    ran = subprocess.run(
        [sys.executable, '-c', BEGINS, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ran.stdout.splitlines()[-1] == 'checked 1 time(s), 3 steps', ran.stderr
    assert len(log.read_text().splitlines()) <= 2


def test_a_new_term_is_a_function_and_a_line(monkeypatch, tmp_path):
    """Its weight is a field, of rules alone that may weigh it."""
    term = terms.Term(lambda recipe, params, sr, hr: abs(sr).mean())
    monkeypatch.setitem(terms.TERMS, 'darkness', term)
    weight = {'domain_integrated.darkness_weight': 0.5}
    config = load('di:demo', weight)
    recipe = build_stage(config, 'domain_integrated', tmp_path).recipe
    assert recipe.weights == {'super_identity': 256.0, 'darkness': 0.5}
    sr = jnp.full((1, 112, 96, 3), 2.0)
    recipe = dataclasses.replace(recipe, weights={'darkness': 0.5})
    loss, metrics = terms.hallucination_loss(recipe, {}, sr, sr)
    assert metrics['darkness_loss'] == 2 and loss == 1
    with pytest.raises(ConfigError, match='darkness_weight is unknown'):
        load('di:demo', {'recognition.darkness_weight': 0.5})
