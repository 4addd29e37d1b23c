import json

import numpy as np
import pytest
from PIL import Image

from sicnn_jax import reproduce
from sicnn_jax.evaluation.compare import EACH_FILE
from sicnn_jax.reproduction import tables, write_figures
from sicnn_jax.reproduction.experiments import Cache
from sicnn_jax.reproduction.results import Comparison, Results
from sicnn_jax.reproduction.runs import Runs
from sicnn_jax.reproduction.write_tables import write_claims, write_table

RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def runs():
    return Runs('demo')


def write_each(cache, row, seed, values):
    """What a finished run measured of its faces, as evaluate writes it."""
    directory = cache.directory(row.run(seed))
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / EACH_FILE
    arrays = dict(np.load(path)) if path.is_file() else {}
    arrays |= {f'{row.method}/{column}': value for column, value in values.items()}
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ('difference', 'error', 'verdict'),
    [(0.3, 0.1, 'holds'), (0.1, 0.1, 'tie'), (-0.3, 0.1, 'does not hold')],
)
def test_differences_within_their_error_are_ties(difference, error, verdict):
    assert Comparison(difference, error, seeds=1).verdict == verdict


def test_alpha_of_the_config_is_the_main_run(runs):
    assert runs.alpha(8, 0) == runs.sicnn(0)
    other = runs.alpha(32, 0)
    assert other.resolved.domain_integrated.alpha == 32 * 32
    assert other.own_stages == ('domain_integrated',)


ON_PHOTOGRAPHS = [('data.dir', 'faces'), ('data.targets', 'targets')]


@pytest.mark.parametrize(('scale', 'given'), [('demo', []), ('real', ON_PHOTOGRAPHS)])
def test_every_run_fits_together(scale, given):
    runs = Runs(scale, given)
    rows = [row for table in tables.tables(runs).values() for row in table.rows]
    needed = tables.needed(runs, rows, [0, 1], recognisability=True)
    assert len({run.key for run in needed}) == len(needed)
    for run in needed:
        assert run.own_stages
        # Stages that are given are those of runs that train them.
        assert all(stage in parent.own_stages for stage, parent in run.given)


def test_overrides_reach_the_runs_that_have_the_field():
    runs = Runs('demo', [('sr_only.steps', '7'), ('evaluation.final_pairs', '40')])
    assert runs.sicnn(0).resolved.sr_only.steps == 7
    assert runs.approaches(0).resolved.evaluation.final_pairs == 40
    with pytest.raises(ValueError, match='sr_onli'):
        Runs('demo', [('sr_onli.steps', '7')])
    with pytest.raises(ValueError, match='--seeds'):
        Runs('demo', [('seed', '5')])


def test_real_faces_have_one_recogniser_and_approaches_from_one_start():
    runs = Runs('real', ON_PHOTOGRAPHS)
    for seed in (0, 1):
        sicnn, joint = runs.sicnn(seed), runs.approach_i(seed)
        assert dict(sicnn.given) == {'recognition': runs.recogniser()}
        assert dict(joint.given) == {
            'recognition': runs.recogniser(),
            'hallucination': sicnn,
        }
        stages = [
            sicnn.resolved.domain_integrated,
            joint.resolved.approach_i,
            runs.approaches(seed).resolved.approach_ii,
        ]
        for field in ('steps', 'batch_size', 'data_seed', 'alpha', 'identity_blur'):
            assert len({stage[field] for stage in stages}) == 1
        assert {stage.init.cnnh for stage in stages} == {'hallucination'}
    several = [row.title for row in tables.tables(runs)[3].rows if row.several]
    assert several == ['I', 'II', 'III', 'domain-integrated']


def test_real_faces_have_to_be_given(tmp_path, capsys):
    arguments = ['--table=3', '--scale=real', '--dry_run', f'--cache={tmp_path}']
    assert reproduce.main(arguments) == 1
    said = capsys.readouterr().err
    assert '--config.data.dir' in said and 'sicnn_jax.describe' in said


def test_table_has_means_spreads_and_verdicts(runs, tmp_path, capsys):
    cache = Cache(tmp_path)
    low = tables.Row('low', 'sr_only', runs.sicnn, several=True)
    high = tables.Row(
        'high', 'sicnn', runs.sicnn, several=True, paper={'identity_similarity': 0.6}
    )
    columns = ('identity_similarity', 'verification_accuracy')
    claims = tuple((column, ('low', 'high')) for column in columns)
    table = tables.Table('Table 9', (low, high), columns, claims)
    noise = RNG.normal(0, 0.01, 200)
    right = RNG.random(300) < 0.8
    for seed, shift in ((0, 0.0), (1, 0.02)):
        for row, value in ((low, 0.3), (high, 0.5)):
            measured = {
                'identity_similarity': value + shift + noise,
                'verification_accuracy': right,
            }
            write_each(cache, row, seed, measured)
    about = {'faces': 1060, 'identities': 443, 'pairs': 600}
    about['judge'] = {'name': '/home/me/judge.onnx', 'hr_accuracy': 0.968}
    path = cache.directory(runs.sicnn(0)) / 'results.json'
    path.write_text(json.dumps(about))
    results = Results(cache, runs)
    claims = write_table('table9', table, results, [0, 1], tmp_path)
    text = (tmp_path / 'table9.md').read_text()
    assert text.strip() == capsys.readouterr().out.strip()
    write_claims(tmp_path / 'claims.md', {'Table 9: all': claims})
    page = (tmp_path / 'claims.md').read_text()
    assert '| Table 9: high above low | identity similarity | +0.2000 ± ' in page
    assert '| 2 | holds |' in page
    spread = np.std([0.0, 0.02], ddof=1)
    mean = 0.5 + 0.01 + noise.mean()
    assert f'| high | {mean:.4f} ± {spread:.4f} | {right.mean():.1%}' in text
    assert '| 0.6000 |' in text
    assert '1,060 faces of 443 held-out people, 600 pairs. Judge: judge.onnx' in text
    assert 'Each method: 200 steps of 16 and then 80 steps of 16 faces.' in text
    assert 'high above low: **holds** (+0.2000 ± ' in text and ', 2 seeds)' in text
    record = json.loads((tmp_path / 'table9.json').read_text())
    assert [claim['verdict'] for claim in record['claims']] == ['holds', 'tie']
    assert record['claims'][0]['difference'] == pytest.approx(0.2)


def test_budgets_are_those_of_all_stages_of_cnnh(runs):
    joint, compared = runs.approach_i(0).resolved, runs.compared('ma', 0).resolved
    assert tables.training_steps(joint, 'approach_i') == ((280, 16),)
    assert tables.training_steps(compared, 'ma') == ((1, 16),)
    assert tables.training_steps(compared, 'bicubic') == ()


def test_rows_that_are_not_trained_are_empty(runs, tmp_path, capsys):
    table = tables.tables(runs)[3]
    results = Results(Cache(tmp_path), runs)
    write_table('table3', table, results, [0], tmp_path)
    printed = capsys.readouterr().out
    assert '| III |  |  |' in printed and 'above' not in printed


def test_dry_run_trains_nothing(tmp_path, capsys):
    arguments = ['--table=3', '--figure=5', '--dry_run', f'--cache={tmp_path}']
    assert reproduce.main(arguments) == 0
    printed = capsys.readouterr().out
    assert 'approach_ii 80' in printed and 'alpha16-seed0' in printed
    assert 'hallucination 200, sr_only 80, domain_integrated 80 steps' in printed
    assert not list(tmp_path.iterdir())


def test_faces_that_figures_show_are_aligned(tmp_path, capsys):
    with pytest.raises(ValueError, match='no pictures'):
        write_figures.read_faces(tmp_path)
    face = RNG.integers(0, 256, (112, 96, 3), np.uint8)
    Image.fromarray(face).save(tmp_path / 'a.png')
    np.testing.assert_array_equal(write_figures.read_faces(tmp_path), face[None])
    Image.fromarray(face[:50]).save(tmp_path / 'b.png')
    arguments = ['--figure=5', '--dry_run', f'--shown={tmp_path}']
    assert reproduce.main([*arguments, f'--cache={tmp_path}']) == 1
    assert 'b.png is 96×50; expected an aligned face' in capsys.readouterr().err


def test_rows_can_be_chosen(tmp_path, capsys):
    arguments = ['--table=5', '--dry_run', f'--cache={tmp_path}']
    rows = ['--row=bicubic', '--row=SICNN, 4×']
    assert reproduce.main([*arguments, *rows]) == 0
    printed = capsys.readouterr().out
    assert 'recognise-bicubic' in printed and 'scale4-seed0' in printed
    assert 'lapsrn' not in printed and 'ur_dgn' not in printed
    assert reproduce.main([*arguments, '--row=SICNN, 5×']) == 1
    said = capsys.readouterr().err
    assert '--row=SICNN, 5×: expected one of bicubic, ' in said


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--table=7'], '7; expected some of 2, 3'),
        ([], '--table=3'),
        (['--table=3', '--config.data'], '--config.FIELD=VALUE'),
    ],
)
def test_bad_arguments_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit):
        reproduce.main(arguments)
    assert message in capsys.readouterr().err
