"""Checkpoints, from which a stage continues, and the networks that it ends with.

All hold plain host arrays without a device axis, so that they load on any number of
devices, and a record (JSON) that describes the networks and their training images, with
a checksum of the arrays. Orbax writes under a temporary name and renames, so a killed
run leaves no half checkpoint. A checkpoint that is damaged later is noticed and set
aside, and the previous one is used. Damaged means that it can be read and makes no
sense; one that the machine cannot read is an error, and stays where it is.

If there are several processes, the first one writes. Each may read on its own.
"""

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epy

from sicnn_jax import damage, packed, paths, results_file
from sicnn_jax.errors import CheckpointError
from sicnn_jax.train_state import TrainState

# Its import takes half as long as JAX's, and the networks that ship do not need it.
with epy.lazy_imports():
    import orbax.checkpoint as ocp

__all__ = [
    'Checkpoints',
    'check_record',
    'describe_origins',
    'differences',
    'has_networks',
    'load_networks',
    'read_record',
    'save_networks',
    'sha256',
]

_FINAL, _LAST, _BEST, _DAMAGED = 'final', 'last', 'best', 'damaged'
_KEPT = 2
# Fields of a record: networks of other stages; the settings, and their changes.
_FROZEN, _SETTINGS, _CHANGES = 'frozen', 'settings', 'changes'
# Fields that say where something is; their neighbour `sha256` identifies it.
_PLACES = ('file', 'from')


class Checkpoints:
    """The checkpoints of one stage while it trains: the last two and the best.

    Args:
      directory: of the stage.
      record: stored with each, see `check_record`. Networks in its field `frozen`, from
        `describe_origins`, belong to an earlier stage and are not stored.
      compared: the part of the record that a checkpoint must have to continue from it;
        by default all. Settings that are left out may differ: `changes` of the record
        says from which step on.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        record: Mapping[str, Any],
        compared: Mapping[str, Any] | None = None,
    ):
        self.directory = _absolute(directory)
        self.record = dict(record)
        self._compared = self.record if compared is None else compared
        self._frozen = record.get(_FROZEN, {})
        self._last = _open_manager(self.directory / _LAST, max_to_keep=_KEPT)
        _remove_half_deleted(self.directory / _BEST)
        self._best = _open_manager(
            self.directory / _BEST,
            max_to_keep=1,
            best_fn=lambda metrics: metrics['score'],
        )

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint; None if there is none."""
        return self._last.latest_step()

    def save(self, step: int, state: TrainState, score: float | None = None) -> None:
        """Starts to write the state; returns before it is on disk.

        Args:
          step: of the state.
          state: host arrays without a device axis.
          score: higher is better; None if the step was not evaluated.

        Raises:
          CheckpointError: this checkpoint, or the previous one, cannot be written.
        """
        # It is written while training continues: a view of memory that a step may
        # reuse, or a part of a larger array, would change meanwhile.
        state = jax.tree.map(lambda leaf: np.array(leaf, order='C'), self._own(state))
        record = self.record | {packed.CHECKSUM: packed.checksum(state)}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record)
        )
        # A step in `last` is not evaluated again, so `best` must have it first. It
        # already has it if a run was killed between the two.
        with _writing(self.directory):
            if score is not None and step not in self._best.all_steps():
                self._best.save(step, args=items, metrics={'score': score})
                self._best.wait_until_finished()
            self._last.save(step, args=items)

    def restore(self, template: TrainState) -> TrainState:
        """The newest intact state. Damaged ones are printed and set aside.

        Args:
          template: a state of the same structure, with the same shapes and dtypes.

        Raises:
          CheckpointError: its record differs from this run's, it cannot be read, or all
            are damaged; then all stay where they are.
        """
        damaged: dict[int, damage.DamagedError] = {}
        for step in sorted(self._last.all_steps(), reverse=True):
            try:
                state, found = self._read(step, template)
            except damage.DamagedError as error:
                damaged[step] = error
                continue
            self._set_aside(damaged)
            self._note_changes(step, found)
            return state.replace(networks={**template.networks, **state.networks})
        problems = '\n'.join(map(str, damaged.values()))
        raise CheckpointError(
            f'No checkpoint of {self.directory} can be restored: all are damaged. '
            'Copy them again, or move that directory away to train the stage from its '
            f'beginning.\n{problems}'
        )

    def _read(self, step, template):
        """A state and its record, if they are intact and of this run."""
        path = self.directory / _LAST / str(step)
        with damage.reading(path):
            record = self._restore(step, record=ocp.args.JsonRestore()).record
        check_record(record, self._compared, str(path))
        own = self._own(template)
        with damage.reading(path):
            try:
                state = self._restore(step, state=ocp.args.StandardRestore(own)).state
            except ValueError:
                self._check_arrays(step, own, path)
                raise
            _check_sum(state, record)
        return state, record

    def _check_arrays(self, step, own, path):
        """Refuses a state that can be read but has other arrays than this run."""
        found = self._restore(step, state=ocp.args.StandardRestore()).state
        was, now = (
            sorted(np.shape(leaf) for leaf in jax.tree.leaves(tree))
            for tree in (found, own)
        )
        if was != now:
            raise CheckpointError(
                f'{path} has {len(was)} arrays; expected the {len(now)} arrays of this '
                'config, whose shapes differ: the networks or optimisers have changed. '
                'Give the run its old settings or start a new workdir.'
            )

    def _set_aside(self, damaged):
        """Moves damaged checkpoints to a place where Orbax does not look for any."""
        for step, error in damaged.items():
            place = paths.free(self.directory / _DAMAGED / str(step))
            place.parent.mkdir(exist_ok=True)
            (self.directory / _LAST / str(step)).rename(place)
            print(f'Damaged, set aside as {place}: {error}', flush=True)
        if damaged:
            self._last.reload()

    def _note_changes(self, step, found):
        """Adds to the record the settings that hold only from this step on."""
        now = {_SETTINGS: self.record.get(_SETTINGS)}
        fields = {field: was for field, was, _ in differences(found, now)}
        known = [*found.get(_CHANGES, [])]
        known += [{'step': step, 'before': fields}] if fields else []
        if known:
            self.record[_CHANGES] = known

    def _own(self, state):
        """The state without the networks that are stored elsewhere."""
        own = {k: v for k, v in state.networks.items() if k not in self._frozen}
        return state.replace(networks=own)

    def _restore(self, step, **items):
        return self._last.restore(step, args=ocp.args.Composite(**items))

    def close(self) -> None:
        """Waits until everything is on disk; raises CheckpointError if that fails."""
        with _writing(self.directory):
            for manager in (self._last, self._best):
                manager.wait_until_finished()
                manager.close()


def has_networks(directory: str | os.PathLike) -> bool:
    """Whether the directory has a finished stage, or is the file of a network."""
    path = _absolute(directory)
    if path.suffix == packed.SUFFIX:
        return path.is_file()
    try:
        return stat.S_ISDIR(os.stat(path / _FINAL).st_mode)
    # For a directory that this user may not read, the error is raised.
    except (FileNotFoundError, NotADirectoryError):
        return False


def read_record(directory: str | os.PathLike) -> dict[str, Any] | None:
    """The record of a stage's final networks, or else of its newest checkpoint.

    The stage need not be finished or begun, and `directory` may be a file of `packed`.
    None if there is no checkpoint, or none with an intact record.

    Raises:
      CheckpointError: it cannot be read, or a finished stage's record is damaged.
    """
    directory = _absolute(directory)
    if directory.suffix == packed.SUFFIX:
        return packed.read(directory)[1]
    if has_networks(directory):
        return _read_record(directory / _FINAL)
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError):
        names = os.listdir(directory / _LAST)
    for step in sorted((int(n) for n in names if n.isdecimal()), reverse=True):
        with contextlib.suppress(damage.DamagedError):
            return _read_record(directory / _LAST / str(step))
    return None


def _read_record(path):
    args = ocp.args.Composite(record=ocp.args.JsonRestore())
    with damage.reading(path), _checkpointer() as checkpointer:
        return checkpointer.restore(path, args=args).record


def describe_origins(
    params: Mapping[str, Any],
    sources: Mapping[str, str | os.PathLike],
    directory: str | os.PathLike,
) -> dict[str, Any]:
    """Describes networks that a stage has from other stages, for its record.

    Args:
      params: at least of these networks, by name.
      sources: the directory of the stage that each of these comes from.
      directory: of this stage.

    Returns:
      For each, 'from', relative to this stage, and 'sha256', which alone is compared.
    """
    return {
        name: {
            'from': os.path.relpath(source, directory),
            'sha256': sha256(params[name]),
        }
        for name, source in sources.items()
    }


def save_networks(
    directory: str | os.PathLike, params: Mapping[str, Any], record: Mapping[str, Any]
) -> None:
    """Writes the final parameters of a stage, and their record.

    Networks in the record's field `frozen` are left out.

    Raises:
      CheckpointError: they cannot be written.
    """
    place = _absolute(directory)
    _remove_unfinished(place)
    frozen = record.get(_FROZEN, {})
    params = {name: value for name, value in params.items() if name not in frozen}
    record = {**record, packed.CHECKSUM: packed.checksum(params)}
    args = ocp.args.Composite(
        params=ocp.args.StandardSave(params), record=ocp.args.JsonSave(record)
    )
    with _writing(place), _checkpointer() as checkpointer:
        checkpointer.save(place / _FINAL, args=args)


def load_networks(
    directory: str | os.PathLike, names: Iterable[str] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and record of a stage that was trained to its end.

    Args:
      directory: of the stage, such as `runs/di/recognition`, or a file of `packed`.
      names: of the networks to load, including any that the stage read from another
        one; None for all that it made.

    Returns:
      Parameters by network name, as host arrays, and the record.

    Raises:
      CheckpointError: there is no such checkpoint, it is damaged or lacks a network.
    """
    path = _absolute(directory)
    if path.suffix == packed.SUFFIX:
        params, record = packed.read(path)
    else:
        path = path / _FINAL
        params, record = _load_final(path)
        for name in set(names or ()) - set(params):
            if name in record.get(_FROZEN, {}):
                params[name] = _load_frozen(path.parent, name, record[_FROZEN])
    missing = sorted(set(names or ()) - set(params))
    if missing:
        raise CheckpointError(
            f'{path} has no network {", ".join(missing)}; it has '
            f'{", ".join(sorted(params))}.'
        )
    return {name: params[name] for name in names or params}, record


def _load_final(path):
    """All final parameters of a stage, and their record."""
    if not path.is_dir():
        raise CheckpointError(
            f'{path} is missing: expected the networks of a finished stage. '
            'Train that stage first, or name the directory of one that is finished.'
        )
    args = ocp.args.Composite(
        params=ocp.args.StandardRestore(), record=ocp.args.JsonRestore()
    )
    try:
        with damage.reading(path), _checkpointer() as checkpointer:
            restored = checkpointer.restore(path, args=args)
            _check_sum(restored.params, restored.record)
    except damage.DamagedError as error:
        raise damage.DamagedError(
            f'{error}. Copy it again, or move it away to train the rest of the stage '
            'again.'
        ) from error
    return restored.params, restored.record


def check_record(
    found: Mapping[str, Any],
    expected: Mapping[str, Any],
    where: str,
    remedy: str = 'Give the run the same setting or start a new workdir.',
) -> None:
    """Refuses a checkpoint of other images or networks than expected.

    Args:
      found: the record of the checkpoint.
      expected: the record that would be written here; only its fields are compared.
      where: names the checkpoint in the error.
      remedy: the advice in the error.

    Raises:
      CheckpointError: fields differ, see `differences`.
    """
    differing = ', and with '.join(
        f'{field} = {was!r}; expected {now!r}'
        for field, was, now in differences(found, expected)
    )
    if differing:
        raise CheckpointError(f'{where} was made with {differing}. {remedy}')


def differences(
    found: Mapping[str, Any], expected: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Fields in which a record differs, as `a.b`, with both values.

    Args:
      found: the record of a checkpoint. Parts and settings that it lacks are not
        compared: older versions did not write them.
      expected: the record that would be written here; only its fields are compared.
    """
    return [
        difference
        for part, value in expected.items()
        if part in found
        for difference in _differences(
            {part: found[part]}, {part: value}, partial=part == _SETTINGS
        )
    ]


def _differences(found, expected, prefix='', *, partial):
    for field, value in expected.items():
        if field in _PLACES or (partial and field not in found):
            continue
        was = found.get(field)
        if isinstance(was, Mapping) and isinstance(value, Mapping):
            below = f'{prefix}{field}.'
            yield from _differences(was, value, below, partial=partial)
        elif was != value:
            name = f'{prefix}{field}'
            # Settings have the name of their field in the config.
            yield name.replace(f'{_SETTINGS}.', 'config.', 1), was, value


def sha256(tree: Any) -> str:
    """The SHA-256 of the bytes of all arrays of a network."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _load_frozen(directory, name, frozen):
    """A network that a stage read from another stage, if it is still the same."""
    source = Path(os.path.normpath(directory / frozen[name]['from']))
    found = load_networks(source, [name])[0][name]
    if sha256(found) != frozen[name]['sha256']:
        raise CheckpointError(
            f'{source} has another {name} than the one that {directory} was trained '
            'with: it was trained again. Train that stage again as well.'
        )
    return found


def _check_sum(tree, record):
    if packed.checksum(tree) != record.get(packed.CHECKSUM):
        raise ValueError('its arrays are not those that were saved')


@contextlib.contextmanager
def _writing(directory):
    """Turns errors of Orbax and the layers below into one that names the directory.

    It may concern an earlier checkpoint: they are written while training continues.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        todo = 'Free some space' if results_file.is_full(error) else 'Correct that'
        raise CheckpointError(
            f'A checkpoint cannot be written in {directory}: {damage.brief(error)}. '
            f'{todo} and give the same command: it continues from the previous '
            'checkpoint, which is intact.'
        ) from error


def _open_manager(directory, **options):
    # Orbax does neither of these for one of several processes.
    directory.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(directory)
    return ocp.CheckpointManager(
        directory,
        options=ocp.CheckpointManagerOptions(
            create=False, multiprocessing_options=_alone(), **options
        ),
    )


def _remove_half_deleted(directory):
    """Removes a half-deleted earlier best: without its score, Orbax would keep it."""
    for path in directory.glob('[0-9]*'):
        # It is listed, because `is_dir` is false for a directory that cannot be read.
        if not {'metrics', 'record', 'state'} <= {item.name for item in path.iterdir()}:
            shutil.rmtree(path)


def _remove_unfinished(directory):
    """Removes files that a killed run left half-written."""
    for path in directory.glob('*.orbax-checkpoint-tmp*'):
        shutil.rmtree(path)


def _checkpointer():
    alone = _alone()
    return ocp.Checkpointer(
        ocp.CompositeCheckpointHandler(
            composite_options=ocp.CompositeOptions(multiprocessing_options=alone)
        ),
        multiprocessing_options=alone,
    )


def _alone():
    """Options with which this process waits for no other one."""
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index,
        active_processes={index},
        barrier_sync_key_prefix=f'process_{index}',
    )


def _absolute(path: str | os.PathLike) -> Path:
    # Orbax refuses relative paths.
    found = paths.local(path).absolute()
    return found if found.suffix == packed.SUFFIX else paths.in_utf8(found)
