"""Trains the stages of a config and evaluates the result.

    python -m sicnn_jax.main --config=configs/di.py:demo
    python -m sicnn_jax.main --config=configs/di.py --workdir=runs/paper \\
        --config.data.source=records --config.data.dir=/data/faces

The same command continues an interrupted run. SIGTERM and Ctrl-C save at the end of the
step and exit with status 75; a second one ends the run at once.

On several hosts, or with several processes, start it once in each: see `launch/` and
`parallel.connect`.
"""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from absl import app, flags, logging

from sicnn_jax import (
    checkpoint,
    command,
    compilation_cache,
    parallel,
    paths,
    provenance,
    results_file,
    train,
)
from sicnn_jax.command import STOPPED
from sicnn_jax.config import find, load
from sicnn_jax.evaluation import compare
from sicnn_jax.evaluation.held_out import NobodyHeldOutError
from sicnn_jax.hooks import Stopped

_CONFIG = flags.DEFINE_string(
    'config',
    None,
    'Experiment, FILE[:VARIANT], such as configs/di.py:demo. Any of its fields can '
    'be set: --config.recognition.steps=100.',
)
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Directory for all output; by default runs/ and the config.'
)
_CHANGED = flags.DEFINE_enum(
    'changed',
    'refuse',
    provenance.CHANGED,
    'If a stage of the workdir was trained with other settings or data: refuse; '
    'continue an interrupted stage with the new ones; or set it aside and train it '
    'anew.',
)
# Errors printed in one line. Others keep their tracebacks, which say where they arose.
_SAID = (ValueError, FloatingPointError)


def main(argv: list[str]) -> int:
    """Runs the command; `argv[1:]` sets config fields. Returns its exit status."""
    overrides = argv[1:]
    unexpected = [each for each in overrides if not _is_field(each)]
    if unexpected:
        return _wrong_usage(f'Unexpected arguments: {" ".join(unexpected)}')
    if _CONFIG.value is None:
        return _wrong_usage('--config is missing, such as --config=configs/di.py:demo')
    try:
        workdir = paths.local(_WORKDIR.value or default_workdir(_CONFIG.value))
    except paths.PathError as error:
        return _wrong_usage(f'--workdir: {error}')
    return command.run(_train, _CONFIG.value, overrides, workdir, errors=_SAID)


def _wrong_usage(message):
    return command.fail(f'{message}. --help lists the flags.', command.USAGE)


def _is_field(argument):
    return argument.lstrip('-').startswith('config.')


def _train(name, overrides, workdir):
    config, changed = load.load(name, overrides), _CHANGED.value
    _leave_out_full_disks()
    try:
        with _one_ends_all(), _full_disk_in_words(workdir):
            parallel.divide_cpu(config.cpu_devices)
            parallel.connect()
            stop = stop_on_signals()
            compilation_cache.keep_programs()
            train.run(
                config, workdir, asked_to_stop=stop, checked=True, changed=changed
            )
            parallel.disconnect()
        if parallel.is_first():
            with _full_disk_in_words(workdir):
                compare.run(config, workdir)
    except NobodyHeldOutError as nobody:
        print(f'Nothing is evaluated: {nobody}')
    except Stopped as stopped:
        print(stopped, flush=True)
        return STOPPED
    return command.DONE


@contextlib.contextmanager
def _full_disk_in_words(workdir: Path) -> Iterator[None]:
    """Turns the error of a full disk into a CheckpointError with a remedy."""
    try:
        yield
    except checkpoint.CheckpointError:
        # It already has a remedy.
        raise
    except Exception as error:
        if not results_file.is_full(error):
            raise
        raise checkpoint.CheckpointError(
            f'No space is left for {workdir}: {error}. Free some and give the same '
            'command: it continues from the last checkpoint, which is intact.'
        ) from error


def _leave_out_full_disks() -> None:
    """Drops Orbax's log entries, with tracebacks, of errors that it also raises."""

    def is_news(record):
        return not (record.exc_info and results_file.is_full(record.exc_info[1]))

    logging.get_absl_logger().addFilter(is_news)


@contextlib.contextmanager
def _one_ends_all() -> Iterator[None]:
    """Ends a failing process at once if others wait for it.

    At exit, JAX would wait for the others to end, which wait for this process's part of
    a step. They notice when it is gone.
    """
    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        if not jax.distributed.is_initialized():
            raise
        if parallel.is_of_lost_process(error):
            command.fail(
                f'another process ended or cannot be reached: {error}. Its output says '
                'why; the same command in all processes continues from the last '
                'checkpoint.'
            )
        elif words := command.in_words(error, _SAID):
            command.fail(words)
        else:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(command.ERROR)


def stop_on_signals() -> Callable[[], bool]:
    """Makes a check whether SIGTERM or SIGINT came; a second one acts as usual."""
    came = []

    def note(number, _):
        came.append(number)
        for sig, handler in usual.items():
            # None means the handler of a library.
            signal.signal(sig, handler or signal.SIG_DFL)
        print(f'{signal.Signals(number).name}: saving after this step.', flush=True)

    usual = {sig: signal.signal(sig, note) for sig in (signal.SIGTERM, signal.SIGINT)}
    return lambda: bool(came)


def default_workdir(config: str) -> Path:
    """`runs/NAME[-VARIANT]` for `…/NAME.py[:VARIANT]`."""
    path, variant = find.split(config)
    return Path('runs') / '-'.join(filter(None, (Path(path).stem, variant)))


def parse_flags(argv: list[str]) -> list[str]:
    """Lets absl parse the flags, and returns the fields of the config.

    Raises:
      SystemExit: a flag is unknown, or the file of the config is not found; the message
        says where it was looked for.
    """
    argv = flags.FLAGS.read_flags_from_files(argv, force_gnu=False)
    argv = load.last_of_each(find.join_value(argv))
    if len(argv) == 1:
        argv.append('--help')
    if not any(arg.startswith(('--verbosity', '-v')) for arg in argv):
        # absl would show Orbax's thirty lines per checkpoint; --verbosity=0 does.
        argv.append('--verbosity=-1')
    try:
        for value in find.given(argv):
            find.find(value)
        rest = flags.FLAGS([arg for arg in argv if not _is_field(arg)])
    except flags.Error as error:
        sys.exit(_wrong_usage(error))
    except ValueError as error:
        sys.exit(command.fail(error, command.USAGE))
    return [*rest, *filter(_is_field, argv)]


if __name__ == '__main__':
    app.run(main, flags_parser=parse_flags)
