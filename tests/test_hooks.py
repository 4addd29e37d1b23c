"""What the log says of steps that were not finite, and when it stops the run."""

import json
import types

import numpy as np
import pytest

from sicnn_jax import hooks, parallel

NO_CHECKPOINT = types.SimpleNamespace(latest_step=None, directory='somewhere')


@pytest.fixture
def make_log(tmp_path):
    def make(patience, start=0, every=2, directory=tmp_path):
        return hooks.Log(
            'sr_only',
            directory,
            every=every,
            start=start,
            last=100,
            batch_size=2,
            checkpoints=NO_CHECKPOINT,
            patience=patience,
            keys=lambda step: [f'ann/{step}.png', f'bob/{step}.png'],
        )

    return make


def _call(log, step, loss, finite=True):
    values = {'recognition_loss': loss, 'feature_norm': 10.0 / step}
    values |= {'cnnr_finite': finite}
    arrays = {key: np.float32(value) for key, value in values.items()}
    log(step, None, {'step': parallel.replicate(arrays)})


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_window_has_its_largest_loss_and_smallest_feature_norm(make_log, tmp_path):
    log = make_log(1)
    _call(log, 1, 2.0)
    _call(log, 2, 40.0)
    (line,) = _lines(tmp_path / 'metrics.jsonl')
    assert (line['recognition_loss'], line['recognition_loss_max']) == (21.0, 40.0)
    assert line['feature_norm_min'] == 5.0
    assert 'nonfinite_steps' not in line


def test_a_bad_step_is_recorded_and_counts_in_no_mean(make_log, tmp_path, capsys):
    log = make_log(3)
    _call(log, 1, 2.0)
    _call(log, 2, np.inf, finite=False)
    (line,) = _lines(tmp_path / 'metrics.jsonl')
    assert line['recognition_loss'] == line['recognition_loss_max'] == 2.0
    assert line['nonfinite_steps'] == 1
    (event,) = _lines(tmp_path / 'events.jsonl')
    assert event['step'] == 2
    assert event['keys'] == ['ann/2.png', 'bob/2.png']
    assert event['metrics'] == {'recognition_loss': 'inf', 'feature_norm': 5.0}
    assert 'step 2 was not finite and not applied' in capsys.readouterr().out


def test_a_step_that_was_half_applied_says_to_which(make_log, tmp_path, capsys):
    log = make_log(3)
    values = {'recognition_loss': np.inf, 'cnnr_finite': 0, 'cnnh_finite': 1}
    arrays = {key: np.float32(value) for key, value in values.items()}
    for step in (1, 2):
        log(step, None, {'step': parallel.replicate(arrays)})
    said = capsys.readouterr().out
    assert 'step 2 was not finite and not applied to cnnr (it was to cnnh)' in said
    for event in _lines(tmp_path / 'events.jsonl'):
        assert event['event'] == 'not finite, not applied to cnnr'
        assert event['metrics'] == {'recognition_loss': 'inf'}


def test_so_many_in_a_row_stop_the_run(make_log):
    """Steps 2, 3 and 5, 6, 7: the second time it is three."""
    log = make_log(3)
    bad = {2, 3, 5, 6, 7}
    for step in range(1, 8):
        _call(log, step, np.nan, finite=step not in bad)
    with pytest.raises(hooks.NonFiniteError) as caught:
        _call(log, 8, 1.0)
    for part in ('step 7 ', 'recognition_loss nan', 'ann/7.png', 'No checkpoint'):
        assert part in str(caught.value)


def test_what_is_after_the_step_a_run_continues_from_is_dropped(make_log, tmp_path):
    log = make_log(9)
    for step in range(1, 5):
        _call(log, step, 1.0, finite=False)
    make_log(9, start=2)
    for name in ('metrics', 'events'):
        steps = [line['step'] for line in _lines(tmp_path / f'{name}.jsonl')]
        assert max(steps) == 2


def test_a_window_that_a_stop_cut_goes_on(make_log, tmp_path):
    for name in ('whole', 'cut'):
        log = make_log(2, directory=tmp_path / name, every=3)
        for step in range(1, 7):
            _call(log, step, 0.1 * step, finite=step != 4)
            if name == 'cut' and step in (2, 4):
                log.keep(step)
                log = make_log(2, start=step, directory=tmp_path / name, every=3)
    whole, cut = (
        _lines(tmp_path / name / 'metrics.jsonl') for name in ('whole', 'cut')
    )
    for line in (*whole, *cut):
        del line['images_per_second']
    assert whole == cut
