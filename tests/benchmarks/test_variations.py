"""The tables that the paper does not have."""

import pytest

from benchmarks.studies import variations
from sicnn_jax.reproduction.runs import Runs
from sicnn_jax.reproduction.tables import needed

ON_PHOTOGRAPHS = [('data.dir', 'faces'), ('data.targets', 'targets')]


@pytest.mark.parametrize(('scale', 'given'), [('demo', []), ('real', ON_PHOTOGRAPHS)])
def test_every_run_fits_together(scale, given):
    runs = Runs(scale, given)
    tables = [make(runs) for make in variations.TABLES.values()]
    for table in tables:
        titles = {row.title for row in table.rows}
        assert all(titles.issuperset(pair) for _, pair in table.claims)
    rows = [row for table in tables for row in table.rows]
    found = needed(runs, rows, [0, 1], recognisability=False)
    assert len({run.key for run in found}) == len(found)
    for run in found:
        assert run.own_stages
        # Stages that are given are those of runs that train them.
        assert all(stage in parent.own_stages for stage, parent in run.given)


def test_a_longer_stage_has_a_longer_schedule():
    runs = Runs('small')
    as_it_is = runs.sicnn(0).resolved.domain_integrated
    (longer,) = (
        row for row in variations.remedies(runs).rows if 'integrated, four' in row.title
    )
    stage = longer.run(0).resolved.domain_integrated
    assert stage.steps == 4 * as_it_is.steps
    for network, optimizer in as_it_is.optimizer.items():
        boundaries = tuple(4 * step for step in optimizer.boundaries)
        assert stage.optimizer[network].boundaries == boundaries != ()


def test_faces_of_shards_are_as_they_were_prepared():
    records = [('data.source', 'records'), ('data.dir', 'faces')]
    rows = variations.beyond(Runs('demo', records)).rows
    assert 'CosFace' in {row.title for row in rows}
    assert 'faces not aligned' not in {row.title for row in rows}


def test_dry_run_trains_nothing(tmp_path, capsys):
    assert variations.main(['--dry_run', f'--cache={tmp_path}']) == 0
    printed = capsys.readouterr().out
    assert 'misaligned-seed0' in printed
    assert 'ii_longer-seed0' in printed and 'approach_ii 320' in printed
    assert '(hallucination 800, ur_dgn_perceptual 320 steps)' in printed
    assert not list(tmp_path.iterdir())


def test_rows_can_be_chosen(tmp_path, capsys):
    arguments = ['--table=beyond', '--dry_run', f'--cache={tmp_path}']
    assert variations.main([*arguments, '--row=features not normalised']) == 0
    printed = capsys.readouterr().out
    assert 'feature_distance-seed0' in printed and 'cosface' not in printed


def test_another_table_is_named(capsys):
    with pytest.raises(SystemExit):
        variations.main(['--table=more'])
    said = capsys.readouterr().err
    assert 'more; expected some of beyond, remedies, rivals' in said
