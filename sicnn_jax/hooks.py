"""Hooks, which run between updates: evaluate, log, draw, save.

The updates know nothing of them. A hook is called after every step with the step, the
replicated state and a dict of metrics, to which it may add for the hooks after it.
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from sicnn_jax import inference, parallel, pictures, results_file
from sicnn_jax.checkpoint import Checkpoints
from sicnn_jax.descent import finite_networks, without_finite
from sicnn_jax.recipe import Recipe
from sicnn_jax.train_state import TrainState

__all__ = [
    'Checkpoint',
    'Evaluate',
    'Hook',
    'Log',
    'Metrics',
    'NonFiniteError',
    'Picture',
    'Stop',
    'Stopped',
]

# 'step' has replicated device scalars of the step (or of several, stacked); the other
# names have host floats.
Metrics = dict[str, Any]
Hook = Callable[[int, TrainState, Metrics], None]

# An error names this many faces.
_NAMED = 4


class NonFiniteError(FloatingPointError):
    """A loss or gradient was not finite; that update was not applied."""


class Stopped(Exception):
    """The run was asked to stop, and has saved the state that it continues from."""


@dataclasses.dataclass
class Evaluate:
    """Adds metrics of held-out faces every `every` steps, and at the last."""

    every: int
    last: int
    measure: Callable[[dict[str, Any]], dict[str, float]]

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        if _due(step, self.every, self.last):
            metrics |= self.measure(parallel.unreplicate(state.params))


class Log:
    """Writes the means of each window of steps: progress line, JSON lines, TensorBoard.

    With the means, it writes the largest value of each loss, which shows a spike that
    a mean hides, and the smallest `feature_norm`, which falls to 0 when features die.
    Steps that were not finite are left out; `events.jsonl` has their metrics and the
    keys of their faces.

    Args:
      name: of the stage.
      directory: of the stage; gets `metrics.jsonl`, `events.jsonl` and TensorBoard's
        event files.
      every: length of the window.
      start: step the run begins or continues at; lines after it are from an
        interrupted run, and are dropped.
      last: step it ends at.
      batch_size: for images/s.
      checkpoints: named in the error of a run that must stop.
      patience: the run stops after this many steps in a row that were not finite.
      keys: step → keys of the faces that it saw.

    Raises:
      NonFiniteError: when called.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        every: int,
        start: int,
        last: int,
        batch_size: int,
        checkpoints: Checkpoints,
        patience: int,
        keys: Callable[[int], list[str]],
    ):
        self._name, self._every, self._last = name, every, last
        self._batch_size, self._checkpoints = batch_size, checkpoints
        self._patience, self._keys = patience, keys
        self._pending: list[Any] = []
        self._kept = directory / 'window.json'
        self._bad_in_a_row, self._begun = _take_up(self._kept, start)
        self._lines = _reopen_lines(directory / 'metrics.jsonl', start)
        self._events = _reopen_lines(directory / 'events.jsonl', start)
        # `SummaryWriter` writes in a thread, which dies if the disk is full, and then
        # waits for it forever.
        board = directory / 'tensorboard'
        board.mkdir(parents=True, exist_ok=True)
        self._board = EventsWriter(str(board / 'events'))
        # TensorBoard forgets what earlier files say from this step on.
        self._write_event(start, session_log=SessionLog(status=SessionLog.START))
        self._step, self._time = start, time.monotonic()

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        self._pending.append(metrics['step'])
        measured = {key: value for key, value in metrics.items() if key != 'step'}
        if not (measured or _due(step, self._every, self._last)):
            return
        window = self._window(step)
        seconds = time.monotonic() - self._time
        rate = (step - self._step) * self._batch_size / seconds
        self._write(step, window | measured | {'images_per_second': rate})
        remaining = (self._last - step) * seconds / (step - self._step)
        self._print(step, window | measured, rate, remaining)
        self._step, self._time = step, time.monotonic()
        if step == self._last:
            self._kept.unlink(missing_ok=True)

    def keep(self, step: int) -> None:
        """Saves the unfinished window, for a run that continues at this step."""
        kept = {
            'step': step,
            'bad_in_a_row': self._bad_in_a_row,
            'values': {key: values.tolist() for key, values in self._take().items()},
        }
        results_file.write_whole(self._kept, json.dumps(kept).encode())

    def _take(self) -> dict[str, np.ndarray]:
        """Values of the steps since the last line."""
        parts = [parallel.unreplicate(values) for values in self._pending]
        parts = [self._begun, *parts] if self._begun else parts
        self._pending.clear()
        self._begun = {}
        return {
            key: np.concatenate([np.atleast_1d(values[key]) for values in parts])
            for key in (parts[0] if parts else ())
        }

    def _window(self, step: int) -> dict[str, float]:
        """Means and extremes since the last line; stops if too many steps are bad."""
        taken = self._take()
        applied, window = finite_networks(taken), without_finite(taken)
        finite = np.all([*applied.values()], axis=0)
        first = step - finite.size + 1
        for place in range(finite.size):
            self._bad_in_a_row = 0 if finite[place] else self._bad_in_a_row + 1
            if not finite[place]:
                values = {key: float(values[place]) for key, values in window.items()}
                bad = [name for name, each in applied.items() if not each[place]]
                good = [name for name in applied if name not in bad]
                self._note_bad(first + place, values, bad, good)
        return _summary({key: values[finite] for key, values in window.items()}) | (
            {} if finite.all() else {'nonfinite_steps': float((~finite).sum())}
        )

    def _note_bad(self, step, values, bad, good):
        keys = self._keys(step)
        half = f' to {", ".join(bad)}' if good else ''
        event = {
            'step': step,
            'event': f'not finite, not applied{half}',
            # JSON has neither NaN nor infinity.
            'metrics': {
                key: value if math.isfinite(value) else str(value)
                for key, value in values.items()
            },
            'keys': keys,
        }
        self._events.write(json.dumps(event, ensure_ascii=False) + '\n')
        self._events.flush()
        found = ', '.join(f'{key} {value:.4g}' for key, value in values.items())
        seen = ', '.join(keys[:_NAMED]) + (', …' if len(keys) > _NAMED else '')
        what = (
            f'[{self._name}] step {step} was not finite and not applied{half}'
            + (f' (it was to {", ".join(good)})' if good else '')
            + f': {found}. Its faces are {seen} (all in {self._events.name}).'
        )
        if self._bad_in_a_row < self._patience:
            print(what, flush=True)
            return
        saved = self._checkpoints.latest_step
        where = (
            'No checkpoint was written yet.'
            if saved is None
            else f'The last good checkpoint is {self._checkpoints.directory} at step '
            f'{saved}; the same command continues from it.'
        )
        raise NonFiniteError(
            f'{what} {where} Look at those faces, lower the learning rate or the '
            'clipping norm of the stage (with --changed=continue), or allow more such '
            f'steps in a row (config.nonfinite_steps is {self._patience}).'
        )

    def _write(self, step, values):
        # JSON has no NaN; an evaluation may yield one.
        line = {'step': step} | {
            key: value if math.isfinite(value) else None
            for key, value in values.items()
        }
        self._lines.write(json.dumps(line) + '\n')
        self._lines.flush()
        for key, value in values.items():
            self._write_event(step, summary=scalar(f'{self._name}/{key}', value))
        self._board.flush()

    def _write_event(self, step, **what):
        self._board.write_event(Event(wall_time=time.time(), step=step, **what))

    def _print(self, step, values, rate, remaining):
        minutes, seconds = divmod(round(remaining), 60)
        shown = '  '.join(
            f'{key} {value:.4g}'
            for key, value in values.items()
            if not key.endswith(('gradient_norm', '_max', '_min'))
        )
        print(
            f'[{self._name}] {step}/{self._last}  {shown}  '
            f'{rate:.1f} images/s  ETA {minutes}:{seconds:02d}',
            flush=True,
        )


@dataclasses.dataclass
class Picture:
    """Draws held-out faces: input | SR | HR, every `every` steps and at the last."""

    every: int
    last: int
    directory: Path
    recipe: Recipe
    hr: np.ndarray

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        if not _due(step, self.every, self.last):
            return
        params = parallel.unreplicate(state.networks['cnnh'].params)
        lr = inference.degrade_faces(
            self.hr, scale=self.recipe.scale, kind=self.recipe.degradation
        )
        columns = {
            'input': pictures.enlarge_pixels(lr),
            'SR': inference.super_resolve(self.recipe.cnnh, params, lr),
            'HR': self.hr,
        }
        pictures.save_grid(self.directory / f'{step:07d}.png', columns)


@dataclasses.dataclass
class Checkpoint:
    """Saves the state every `every` steps and at the last; keeps the best by a metric.

    Attributes:
      every, last: the steps to save at.
      checkpoints: where to save; None in a process that does not write, but holds a
        part of what `fetch` gathers.
      best: metric of `Evaluate` by which the best is kept; higher is better.
      fetch: state on the devices → host arrays of all of it.
    """

    every: int
    last: int
    checkpoints: Checkpoints | None
    best: str
    fetch: Callable[[TrainState], TrainState]

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        if not _due(step, self.every, self.last):
            return
        whole = self.fetch(state)
        if self.checkpoints is not None:
            self.checkpoints.save(step, whole, metrics.get(self.best))


@dataclasses.dataclass
class Stop:
    """Saves the state and ends the run once asked to.

    Attributes:
      asked: whether the run is asked to stop.
      checkpoints: where to save; None in a process that does not write.
      fetch: state on the devices → host arrays of all of it.
      before: functions called with the step before the run ends.

    Raises:
      Stopped: when called, after everything is on disk.
    """

    asked: Callable[[], bool]
    checkpoints: Checkpoints | None
    fetch: Callable[[TrainState], TrainState]
    before: Sequence[Callable[[int], None]]

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        if not self.asked():
            return
        # All processes take part, whether they save or not: each holds a part.
        whole = self.fetch(state)
        if self.checkpoints is None:
            raise Stopped(f'Stopped at step {step}.')
        for last_act in self.before:
            last_act(step)
        # A bad step is not applied, so what is saved here is good either way; only
        # `Log` knows whether there was one.
        if self.checkpoints.latest_step != step:
            self.checkpoints.save(step, whole)
        self.checkpoints.close()
        raise Stopped(
            f'Stopped at step {step}, saved in {self.checkpoints.directory}. The same '
            'command continues from there.'
        )


def _summary(window: dict[str, np.ndarray]) -> dict[str, float]:
    """Means, largest losses and smallest feature norm; NaN if there are no steps."""
    summary = {}
    for key, values in window.items():
        values = values if values.size else np.array([np.nan])
        summary[key] = float(values.mean())
        if key.endswith('_loss'):
            summary[f'{key}_max'] = float(values.max())
        if key == 'feature_norm':
            summary[f'{key}_min'] = float(values.min())
    return summary


def _due(step: int, every: int, last: int) -> bool:
    return step == last or (bool(every) and step % every == 0)


def _take_up(path: Path, start: int) -> tuple[int, dict[str, np.ndarray]]:
    """What `Log.keep` saved: bad steps in a row, and the values of a window."""
    try:
        kept = json.loads(path.read_text(encoding='utf-8'))
    # There is no file, or half of one, which a power cut may leave.
    except (FileNotFoundError, json.JSONDecodeError):
        return 0, {}
    if kept['step'] != start:
        return 0, {}
    values = {key: np.array(v, np.float32) for key, v in kept['values'].items()}
    return kept['bad_in_a_row'], values


def _reopen_lines(path: Path, start: int) -> TextIO:
    """The file of JSON lines, cut back to the step that the run continues from."""
    lines = results_file.read_lines(path)
    kept = [text + '\n' for text, line in lines if line['step'] <= start]
    results_file.write_whole(path, ''.join(kept).encode())
    return path.open('a', encoding='utf-8', newline='\n')
