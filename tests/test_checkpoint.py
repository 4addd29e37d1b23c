"""Damaged checkpoints are noticed, and what is whole is used."""

import errno
import os
import shutil

import chex
import jax
import numpy as np
import optax
import pytest
import safetensors.numpy
from etils import epath

from sicnn_jax import checkpoint, damage, packed
from sicnn_jax.errors import CheckpointError
from sicnn_jax.paths import PathError
from sicnn_jax.train_state import TrainState
from tests import tiny_run

RECORD = {'scale': 8}


def _state(step):
    rng = np.random.default_rng(step)
    params = {'cnnh': {'kernel': rng.normal(size=(40, 50)).astype(np.float32)}}
    state = TrainState.create(params, {'cnnh': optax.sgd(0.1, momentum=0.9)})
    return state.replace(step=np.array(step, np.int32))


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of steps 2 and 4."""
    checkpoints = checkpoint.Checkpoints(tmp_path, RECORD)
    for step in (2, 4):
        checkpoints.save(step, _state(step))
    checkpoints.close()
    return tmp_path


def _largest(directory):
    files = (path for path in directory.rglob('*') if path.is_file())
    return max(files, key=lambda path: path.stat().st_size)


def _truncate(directory):
    path = _largest(directory)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip_a_bit(directory):
    path = _largest(directory)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


def _delete_the_state(directory):
    shutil.rmtree(directory / 'state')


def _delete_the_record(directory):
    shutil.rmtree(directory / 'record')


DAMAGES = (_truncate, _flip_a_bit, _delete_the_state, _delete_the_record)


@pytest.mark.parametrize('harm', DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_used(harm, saved, capsys):
    harm(saved / 'last' / '4')
    checkpoints = checkpoint.Checkpoints(saved, RECORD)
    restored = checkpoints.restore(_state(0))
    assert restored.step == 2
    np.testing.assert_array_equal(
        restored.params['cnnh']['kernel'], _state(2).params['cnnh']['kernel']
    )
    assert f'Damaged, set aside as {saved / "damaged" / "4"}' in capsys.readouterr().out
    assert (saved / 'damaged' / '4').is_dir()
    # Its place is free again.
    checkpoints.save(4, _state(4))
    checkpoints.close()
    assert checkpoint.Checkpoints(saved, RECORD).restore(_state(0)).step == 4


def _no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_named_and_leaves_what_was_saved(saved, tmp_path, monkeypatch):
    """Orbax writes while training goes on: its error comes with the next call."""
    # What Orbax writes its metadata with.
    monkeypatch.setattr(type(epath.Path(saved)), 'write_text', _no_space)
    checkpoints = checkpoint.Checkpoints(saved, RECORD)
    with pytest.raises(checkpoint.CheckpointError) as caught:
        checkpoints.save(6, _state(6))
        checkpoints.close()
    assert f'cannot be written in {saved}' in str(caught.value)
    assert 'Free some space and give the same command' in str(caught.value)
    # Elsewhere: threads of Orbax go on for a while after the error.
    last = saved / 'last'
    steps = [path.name for path in last.iterdir() if path.name.isdecimal()]
    for step in steps:
        shutil.copytree(last / step, tmp_path / 'copy' / 'last' / step)
    assert sorted(steps) == ['2', '4']
    again = checkpoint.Checkpoints(tmp_path / 'copy', RECORD)
    assert again.restore(_state(0)).step == 4


def test_final_networks_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(type(epath.Path(tmp_path)), 'write_text', _no_space)
    params = {'cnnh': {'kernel': np.ones((3, 4), np.float32)}}
    with pytest.raises(checkpoint.CheckpointError, match=f'written in {tmp_path}'):
        checkpoint.save_networks(tmp_path, params, RECORD)
    assert not checkpoint.has_networks(tmp_path)


SYSTEM = (
    OSError(errno.ESTALE, os.strerror(errno.ESTALE)),
    # As TensorStore has it.
    ValueError(
        f'PERMISSION_DENIED: Error reading "x" [OS error {errno.EACCES}: Permission '
        "denied] [source locations='file.cc:1']"
    ),
    ValueError('RESOURCE_EXHAUSTED: no memory'),
)


@pytest.mark.parametrize('error', SYSTEM)
def test_what_the_system_cannot_read_is_not_damaged(error, saved, monkeypatch):
    """Once: the second try would have found it whole."""
    checkpoints = checkpoint.Checkpoints(saved, RECORD)
    restore, errors = checkpoints._restore, [error]

    def fail(step, **items):
        if errors and 'state' in items:
            raise errors.pop()
        return restore(step, **items)

    monkeypatch.setattr(checkpoints, '_restore', fail)
    with pytest.raises(checkpoint.CheckpointError, match='4 cannot be read') as caught:
        checkpoints.restore(_state(0))
    assert 'source locations' not in str(caught.value)
    assert not isinstance(caught.value, damage.DamagedError)
    assert checkpoints.restore(_state(0)).step == 4
    assert not (saved / 'damaged').exists()


def test_errors_that_are_not_of_the_checkpoint_pass(saved, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    checkpoints = checkpoint.Checkpoints(saved, RECORD)
    monkeypatch.setattr(checkpoints, '_restore', fail)
    with pytest.raises(MemoryError):
        checkpoints.restore(_state(0))


def test_a_file_that_may_not_be_read_is_not_missing(tmp_path, monkeypatch):
    """Orbax says that it is not there."""
    (tmp_path / 'manifest').touch()

    def refuse(path, *_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    def read():
        with damage.reading(tmp_path):
            raise ValueError('Metadata file does not exist')

    with pytest.raises(damage.DamagedError, match='is damaged: Metadata file'):
        read()
    monkeypatch.setattr(damage, 'open', refuse, raising=False)
    with pytest.raises(CheckpointError, match=r'cannot be read: .*denied.*manifest'):
        read()


def test_what_is_no_error_of_reading_is_not_taken_for_one(tmp_path):
    for error in (AssertionError(), RuntimeError('Unable to initialize backend')):
        with pytest.raises(type(error)), damage.reading(tmp_path):
            raise error


def test_another_optimiser_is_no_damage(saved):
    other = TrainState.create(_state(0).params, {'cnnh': optax.adam(0.1)})
    checkpoints = checkpoint.Checkpoints(saved, RECORD)
    with pytest.raises(CheckpointError, match='or optimisers have changed'):
        checkpoints.restore(other)
    assert _names(saved / 'last') == ['2', '4']


def test_the_record_says_from_which_step_on_settings_hold(tmp_path):
    def begin(settings, step, compared=None):
        record = RECORD | {'settings': settings}
        checkpoints = checkpoint.Checkpoints(tmp_path, record, compared)
        if step > 2:
            checkpoints.restore(_state(0))
        checkpoints.save(step, _state(step))
        checkpoints.close()
        return checkpoints.record

    begin({'seed': 0}, 2)
    with pytest.raises(CheckpointError, match=r'config\.seed = 0; expected 1'):
        begin({'seed': 1}, 4)
    changes = [{'step': 2, 'before': {'config.seed': 0}}]
    assert begin({'seed': 1}, 4, RECORD)['changes'] == changes
    assert begin({'seed': 1}, 6)['changes'] == changes
    assert checkpoint.read_record(tmp_path)['changes'] == changes


def test_the_record_of_a_stage_is_that_of_its_newest_checkpoint(saved):
    assert checkpoint.read_record(saved / 'none') is None
    assert checkpoint.read_record(saved)['scale'] == 8
    _delete_the_record(saved / 'last' / '4')
    assert checkpoint.read_record(saved)['scale'] == 8
    _delete_the_record(saved / 'last' / '2')
    assert checkpoint.read_record(saved) is None
    checkpoint.save_networks(saved, _state(1).params, {'scale': 4})
    assert checkpoint.read_record(saved)['scale'] == 4
    _delete_the_record(saved / 'final')
    with pytest.raises(damage.DamagedError, match='final is damaged'):
        checkpoint.read_record(saved)


def test_what_a_record_lacks_is_not_compared():
    expected = {'scale': 8, 'settings': {'seed': 0, 'new': 1}, 'models': {'a': 1}}
    assert checkpoint.differences({}, expected) == []
    assert checkpoint.differences({'settings': {'seed': 0}}, expected) == []
    assert checkpoint.differences({'settings': {'seed': 3}}, expected) == [
        ('config.seed', 3, 0)
    ]
    # The fields of a network say together what it is.
    assert checkpoint.differences({'models': {}}, expected) == [('models.a', None, 1)]


def test_a_path_that_orbax_cannot_take_is_named(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b'/caf\xe9')
    with pytest.raises(PathError, match=r'caf\\xe9 has a name that is not UTF-8'):
        checkpoint.load_networks(path)


def test_if_all_are_damaged_nothing_is_moved(saved):
    for step in ('2', '4'):
        _truncate(saved / 'last' / step)
    checkpoints = checkpoint.Checkpoints(saved, RECORD)
    with pytest.raises(checkpoint.CheckpointError, match='all are damaged'):
        checkpoints.restore(_state(0))
    assert (saved / 'last' / '4').is_dir()


def test_other_conventions_are_no_damage(saved):
    checkpoints = checkpoint.Checkpoints(saved, {'scale': 4})
    with pytest.raises(checkpoint.CheckpointError, match='scale = 8'):
        checkpoints.restore(_state(0))
    assert (saved / 'last' / '4').is_dir()


def _names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_what_a_killed_run_left_is_removed(tmp_path):
    """Half-written, and half-deleted as the best before."""
    checkpoints = checkpoint.Checkpoints(tmp_path, RECORD)
    for step in (2, 4):
        checkpoints.save(step, _state(step), score=step)
    checkpoints.close()
    shutil.copytree(tmp_path / 'best' / '4', tmp_path / 'best' / '2')
    _delete_the_state(tmp_path / 'best' / '2')
    for directory in (tmp_path / 'best', tmp_path / 'last', tmp_path):
        (directory / '6.orbax-checkpoint-tmp' / 'state').mkdir(parents=True)
    checkpoint.Checkpoints(tmp_path, RECORD).close()
    checkpoint.save_networks(tmp_path, _state(4).params, RECORD)
    assert _names(tmp_path / 'best') == ['4']
    assert _names(tmp_path / 'last') == ['2', '4']
    assert _names(tmp_path) == ['best', 'final', 'last']


def test_the_best_is_whole_before_the_last_is_written(tmp_path, monkeypatch):
    """Killed between the two, the step is done and evaluated again."""
    checkpoints = checkpoint.Checkpoints(tmp_path, RECORD)

    class Killed(Exception):
        pass

    def die(*arguments, **settings):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._last, 'save', die)
        with pytest.raises(Killed):
            checkpoints.save(2, _state(2), score=1.0)
    assert _names(tmp_path / 'best') == ['2']
    again = checkpoint.Checkpoints(tmp_path, RECORD)
    assert again.latest_step is None
    again.save(2, _state(2), score=1.0)
    again.close()
    assert _names(tmp_path / 'best') == _names(tmp_path / 'last') == ['2']


def test_a_difference_is_named_by_its_path():
    found = {'scale': 8, 'models': {'cnnh': {'growth': 2, 'depth': 1}}}
    expected = {'models': {'cnnh': {'growth': 3, 'depth': 1}}}
    with pytest.raises(checkpoint.CheckpointError) as caught:
        checkpoint.check_record(found, expected, 'x')
    assert 'x was made with models.cnnh.growth = 2; expected 3' in str(caught.value)


@pytest.mark.parametrize('harm', [_truncate, _flip_a_bit])
def test_damaged_networks_are_named(harm, tmp_path):
    checkpoint.save_networks(tmp_path, _state(1).params, RECORD)
    params, record = checkpoint.load_networks(tmp_path)
    np.testing.assert_array_equal(
        params['cnnh']['kernel'], _state(1).params['cnnh']['kernel']
    )
    assert record['scale'] == 8
    harm(tmp_path / 'final')
    with pytest.raises(checkpoint.CheckpointError, match='final is damaged'):
        checkpoint.load_networks(tmp_path)


def _with_frozen(step):
    state = _state(step)
    frozen = TrainState.create({'cnnr': {'bias': np.arange(3.0)}}, {})
    return state.replace(networks={**state.networks, **frozen.networks})


@pytest.fixture
def frozen(tmp_path):
    """A stage that reads CNNR of another one, with a checkpoint and its networks."""
    params = _with_frozen(0).params
    checkpoint.save_networks(tmp_path / 'recognition', {'cnnr': params['cnnr']}, RECORD)
    sources = {'cnnr': tmp_path / 'recognition'}
    described = checkpoint.describe_origins(params, sources, tmp_path / 'stage')
    record = RECORD | {'frozen': described}
    checkpoints = checkpoint.Checkpoints(tmp_path / 'stage', record)
    checkpoints.save(2, _with_frozen(2))
    checkpoints.close()
    checkpoint.save_networks(tmp_path / 'stage', params, record)
    return tmp_path / 'stage', record


def test_a_frozen_network_is_stored_once(frozen):
    directory, record = frozen
    params, _ = checkpoint.load_networks(directory)
    assert [*params] == ['cnnh']
    found, _ = checkpoint.load_networks(directory, ['cnnr', 'cnnh'])
    np.testing.assert_array_equal(found['cnnr']['bias'], np.arange(3.0))
    assert record['frozen']['cnnr']['from'] == '../recognition'
    assert len(record['frozen']['cnnr']['sha256']) == 64
    restored = checkpoint.Checkpoints(directory, record).restore(_with_frozen(0))
    assert restored.step == 2
    np.testing.assert_array_equal(restored.params['cnnr']['bias'], np.arange(3.0))
    with pytest.raises(checkpoint.CheckpointError, match='no network discriminator'):
        checkpoint.load_networks(directory, ['discriminator'])


def test_a_frozen_network_that_changed_is_noticed(frozen):
    directory, record = frozen
    other = {'cnnr': {'bias': np.ones(3)}}
    shutil.rmtree(directory.parent / 'recognition')
    checkpoint.save_networks(directory.parent / 'recognition', other, RECORD)
    with pytest.raises(checkpoint.CheckpointError, match='another cnnr than the one'):
        checkpoint.load_networks(directory, ['cnnr'])
    sources = {'cnnr': directory.parent / 'recognition'}
    changed = record | {
        'frozen': checkpoint.describe_origins(other, sources, directory)
    }
    with pytest.raises(checkpoint.CheckpointError, match=r'frozen\.cnnr\.sha256'):
        checkpoint.Checkpoints(directory, changed).restore(_with_frozen(0))


def test_a_packed_network_is_a_stage_of_its_own(tmp_path):
    record, params = tiny_run.write_run(tmp_path / 'run')
    file = tmp_path / 'cnnh.safetensors'
    assert not checkpoint.has_networks(file)
    for half in (False, True):
        file.write_bytes(packed.pack('cnnh', params, record, half=half))
        assert checkpoint.has_networks(file)
        found, known = checkpoint.load_networks(file, ['cnnh'])
        assert {k: v for k, v in known.items() if k != packed.CHECKSUM} == record
        tolerance = 1e-3 if half else 0
        chex.assert_trees_all_close(found['cnnh'], params, rtol=tolerance)
        assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(found))
    with pytest.raises(CheckpointError, match='has no network cnnr; it has cnnh'):
        checkpoint.load_networks(file, ['cnnr'])


def test_a_packed_network_that_is_none_is_named(tmp_path):
    file = tmp_path / 'cnnh.safetensors'
    with pytest.raises(CheckpointError, match=r'cnnh\.safetensors is missing'):
        checkpoint.load_networks(file)
    params = {'conv': {'bias': np.ones(9, np.float32), 'levels': np.arange(3)}}
    whole = packed.pack('cnnh', params, {})
    file.write_bytes(whole)
    found, _ = checkpoint.load_networks(file)
    chex.assert_trees_all_equal_shapes_and_dtypes(found['cnnh'], params)
    file.write_bytes(whole[:-4])
    with pytest.raises(CheckpointError, match=r'cnnh\.safetensors is damaged'):
        checkpoint.load_networks(file)
    flipped = bytearray(whole)
    flipped[-1] ^= 4
    file.write_bytes(bytes(flipped))
    with pytest.raises(CheckpointError, match='not those that were saved'):
        checkpoint.load_networks(file)
    file.write_bytes(safetensors.numpy.save({'x': np.ones(2)}))
    with pytest.raises(CheckpointError, match="no field 'record' in its metadata"):
        checkpoint.load_networks(file)
    metadata = {'record': '{"crc32": 5}'}
    file.write_bytes(safetensors.numpy.save({'x': np.ones(2)}, metadata))
    with pytest.raises(CheckpointError, match="no field 'network' in its metadata"):
        checkpoint.load_networks(file)
    large = {'conv': {'bias': np.full(2, 1e6, np.float32)}}
    with pytest.raises(ValueError, match='conv/bias that float16 cannot hold'):
        packed.pack('cnnh', large, {}, half=True)
