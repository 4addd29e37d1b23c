"""Checkpoints: what a stage continues from, and what it leaves behind.

All hold plain host arrays without a device axis, so that they load on any number of
devices, and a record (JSON) of what the networks are and of the images they know, with
a checksum of the arrays. Orbax writes under a temporary name and renames: a killed run
leaves no half one. What is damaged later is noticed, and the checkpoint before is used.

Of several processes the first one writes. Each may read: the others do not take part.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from sicnn_jax import packed, paths, results_file
from sicnn_jax.errors import CheckpointError
from sicnn_jax.train_state import TrainState

__all__ = [
    'Checkpoints',
    'check_record',
    'describe_frozen',
    'has_networks',
    'load_networks',
    'save_networks',
]

_FINAL = 'final'
_KEPT = 2
_FROZEN = 'frozen'
# Fields that say where something is; what it is, their neighbour `sha256` says.
_PLACES = ('file', 'from')


class Checkpoints:
    """The checkpoints of one stage while it trains: the last two and the best.

    Args:
      directory: of the stage.
      record: stored with each, see `check_record`. Networks that its field `frozen`
        names, as `describe_frozen` has them, are those of an earlier stage: they are
        not stored.
    """

    def __init__(self, directory: str | os.PathLike, record: Mapping[str, Any]):
        self.directory = _absolute(directory)
        self._record = dict(record)
        self._frozen = record.get(_FROZEN, {})
        self._last = _open_manager(self.directory / 'last', max_to_keep=_KEPT)
        _remove_half_deleted(self.directory / 'best')
        self._best = _open_manager(
            self.directory / 'best',
            max_to_keep=1,
            best_fn=lambda metrics: metrics['score'],
        )

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None if there is none."""
        return self._last.latest_step()

    def save(self, step: int, state: TrainState, score: float | None = None) -> None:
        """Starts to write the state; returns before it is on disk.

        Args:
          step: of the state.
          state: host arrays, no device axis.
          score: higher is better; None where the step was not evaluated.

        Raises:
          CheckpointError: this one, or the one before, cannot be written.
        """
        # It is written while training goes on: a view of memory that a step is free to
        # use again, or a part of a larger array, would not be what it is now.
        state = jax.tree.map(lambda leaf: np.array(leaf, order='C'), self._own(state))
        record = self._record | {packed.CHECKSUM: packed.checksum(state)}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record)
        )
        # A step that `last` has is not evaluated again: before, `best` must have it.
        # It has it already where a run was killed between the two.
        with _writing(self.directory):
            if score is not None and step not in self._best.all_steps():
                self._best.save(step, args=items, metrics={'score': score})
                self._best.wait_until_finished()
            self._last.save(step, args=items)

    def restore(self, template: TrainState) -> TrainState:
        """The newest state that is whole. Damaged ones are named and deleted.

        Args:
          template: a state of the same structure, whose arrays say shape and dtype.

        Raises:
          CheckpointError: its record differs from that of this run, or all are
            damaged; then none is deleted.
        """
        damaged = []
        for step in sorted(self._last.all_steps(), reverse=True):
            path = self.directory / 'last' / str(step)
            try:
                record = self._restore(step, record=ocp.args.JsonRestore()).record
                check_record(record, self._record, str(path))
                item = ocp.args.StandardRestore(self._own(template))
                state = self._restore(step, state=item).state
                _check_sum(state, record)
            except CheckpointError:
                # It is whole, but of other settings.
                raise
            # Which error tells that a file is damaged, depends on the file.
            except Exception as error:
                damaged.append((step, f'{path}: {error}'))
                continue
            for other, problem in damaged:
                print(f'Damaged, deleted: {problem}', flush=True)
                self._last.delete(other)
            return state.replace(networks={**template.networks, **state.networks})
        problems = '\n'.join(problem for _, problem in damaged)
        raise CheckpointError(
            f'No checkpoint of {self.directory} can be restored: they are damaged, or '
            'the optimisers are others now. Give the run its old settings, or delete '
            f'that directory to train the stage from its beginning.\n{problems}'
        )

    def _own(self, state):
        """The state without the networks that are stored elsewhere."""
        own = {k: v for k, v in state.networks.items() if k not in self._frozen}
        return state.replace(networks=own)

    def _restore(self, step, **items):
        return self._last.restore(step, args=ocp.args.Composite(**items))

    def close(self) -> None:
        """Waits until everything is on disk. Raises CheckpointError if it cannot be."""
        with _writing(self.directory):
            for manager in (self._last, self._best):
                manager.wait_until_finished()
                manager.close()


def has_networks(directory: str | os.PathLike) -> bool:
    """Whether a stage was trained to its end in that directory, or it is one file."""
    path = _absolute(directory)
    return path.is_file() if path.suffix == packed.SUFFIX else (path / _FINAL).is_dir()


def describe_frozen(
    params: Mapping[str, Any],
    sources: Mapping[str, str | os.PathLike],
    directory: str | os.PathLike,
) -> dict[str, Any]:
    """The field `frozen` of a record: networks that a stage only reads.

    Args:
      params: all of the stage, by name.
      sources: directory of the stage that each of these is from.
      directory: of this stage.

    Returns:
      'from', seen from this stage, and 'sha256' of each.
    """
    return {
        name: {
            'from': os.path.relpath(source, directory),
            'sha256': _sha256(params[name]),
        }
        for name, source in sources.items()
    }


def save_networks(
    directory: str | os.PathLike,
    params: Mapping[str, Any],
    record: Mapping[str, Any],
) -> None:
    """Writes the parameters that a stage ends with, and their record.

    Networks that its field `frozen` names are left out.

    Raises:
      CheckpointError: they cannot be written.
    """
    _remove_unfinished(_absolute(directory))
    frozen = record.get(_FROZEN, {})
    params = {name: value for name, value in params.items() if name not in frozen}
    with _writing(_absolute(directory)), _checkpointer() as checkpointer:
        checkpointer.save(
            _absolute(directory) / _FINAL,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(params),
                record=ocp.args.JsonSave(
                    {**record, packed.CHECKSUM: packed.checksum(params)}
                ),
            ),
        )


def load_networks(
    directory: str | os.PathLike, names: Iterable[str] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and record of a stage that was trained to its end.

    Args:
      directory: of the stage, such as `runs/di/recognition`, or a file of `packed`.
      names: networks wanted, which may be some that the stage read from another one;
        None for all that it made.

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
    """All parameters and the record of what a stage ended with."""
    if not path.is_dir():
        raise CheckpointError(
            f'{path} is missing: expected the networks of a finished stage. '
            'Train that stage first, or name the directory of one that is finished.'
        )
    args = ocp.args.Composite(
        params=ocp.args.StandardRestore(), record=ocp.args.JsonRestore()
    )
    try:
        with _checkpointer() as checkpointer:
            restored = checkpointer.restore(path, args=args)
        params = restored.params
        _check_sum(params, restored.record)
    except Exception as error:
        raise CheckpointError(
            f'{path} is damaged: {error}. Copy it again, or delete it to train the '
            'rest of the stage again.'
        ) from error
    return params, restored.record


def check_record(
    found: Mapping[str, Any],
    expected: Mapping[str, Any],
    where: str,
    remedy: str = 'Give the run the same setting or start a new workdir.',
) -> None:
    """Refuses a checkpoint of other images or networks than those it is to meet.

    Args:
      found: the record of the checkpoint.
      expected: what would be recorded here; only its fields are compared.
      where: names the checkpoint in the error.
      remedy: what to do, in the error.

    Raises:
      CheckpointError: a field differs.
    """
    for field, was, now in _differences(found, expected):
        raise CheckpointError(
            f'{where} was made with {field} = {was!r}; expected {now!r}. {remedy}'
        )


def _differences(
    found: Mapping[str, Any], expected: Mapping[str, Any], prefix: str = ''
) -> Iterator[tuple[str, Any, Any]]:
    """Fields that differ, as `a.b`, with both values."""
    for field, value in expected.items():
        if field in _PLACES:
            continue
        was = found.get(field)
        if isinstance(was, Mapping) and isinstance(value, Mapping):
            yield from _differences(was, value, f'{prefix}{field}.')
        elif was != value:
            yield f'{prefix}{field}', was, value


def _sha256(tree: Any) -> str:
    """Of the bytes of all arrays."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def _load_frozen(directory, name, frozen):
    """A network that a stage read from another one, if it is still the same."""
    source = Path(os.path.normpath(directory / frozen[name]['from']))
    found = load_networks(source, [name])[0][name]
    if _sha256(found) != frozen[name]['sha256']:
        raise CheckpointError(
            f'{source} has another {name} than that which {directory} was trained '
            'with: it was trained anew. Train that stage anew, too.'
        )
    return found


def _check_sum(tree, record):
    if packed.checksum(tree) != record.get(packed.CHECKSUM):
        raise ValueError('its arrays are not those that were saved')


@contextlib.contextmanager
def _writing(directory):
    """Whatever Orbax and what is below it raise, as an error that names the directory.

    It may be of an earlier checkpoint: they are written while training goes on.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        todo = 'Free some space' if results_file.is_full(error) else 'Mend that'
        # TensorStore adds where in its source it was.
        reason = str(error).partition(' [source locations')[0]
        raise CheckpointError(
            f'A checkpoint cannot be written in {directory}: {reason}. {todo} and give '
            'the same command: it continues from the checkpoint before, which is whole.'
        ) from error


def _open_manager(directory, **options):
    # Orbax does neither for one of several processes.
    directory.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(directory)
    return ocp.CheckpointManager(
        directory,
        options=ocp.CheckpointManagerOptions(
            create=False, multiprocessing_options=_alone(), **options
        ),
    )


def _remove_half_deleted(directory):
    """Of an earlier best, which Orbax would keep: it has no score to compare."""
    for path in directory.glob('[0-9]*'):
        if any(not (path / item).is_dir() for item in ('metrics', 'record', 'state')):
            shutil.rmtree(path)


def _remove_unfinished(directory):
    """What a run that was killed left half-written."""
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
    """This process waits for no other one."""
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
