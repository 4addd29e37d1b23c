"""The flags and exit status of every command that trains the rows of tables."""

import argparse
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from sicnn_jax import command
from sicnn_jax.reproduction.runs import SCALES


def several(kind: Callable[[str], Any], choices: Collection) -> Callable[[str], list]:
    """The type of an option with several values; without choices, all are admitted."""

    def parse(text):
        values = [kind(value) for value in text.split(',')]
        wrong = [value for value in values if choices and value not in choices]
        if wrong:
            listed = ', '.join(map(str, choices))
            raise argparse.ArgumentTypeError(f'{wrong[0]}; expected some of {listed}')
        return values

    return parse


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of every command that trains the rows of tables."""
    add = parser.add_argument
    add('--scale', choices=tuple(SCALES), default='demo', help='size of the networks')
    add(
        '--seeds',
        type=several(int, ()),
        default=[0],
        metavar='N,N',
        help='seeds of the rows that are trained with several; default: 0',
    )
    add(
        '--row',
        action='append',
        default=[],
        metavar='TITLE',
        help='train only what this row needs (may be repeated); other rows are shown '
        'if they are trained already. Default: all rows',
    )
    add(
        '--cache',
        type=command.path,
        help='directory of the runs; default: runs/reproduce/SCALE',
    )
    add('--out', type=command.path, help='directory to write to; default: the cache')
    add('--dry_run', action='store_true', help='only say what would be trained')


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """The options of `add_flags` and of the command, and (field, value) of a config.

    If they are not given, the cache and the directory to write to are the scale's.
    """
    options, rest = parser.parse_known_args(arguments)
    overrides = []
    for argument in rest:
        field, equals, value = argument.removeprefix('--config.').partition('=')
        if not argument.startswith('--config.') or not equals:
            parser.error(f'unknown: {argument}; expected --config.FIELD=VALUE.')
        overrides.append((field, value))
    options.cache = options.cache or Path('runs/reproduce') / options.scale
    options.out = options.out or options.cache
    return options, overrides


def exit_status(work: Callable[[], None]) -> int:
    """Runs a command; returns its exit status."""
    # A run that failed is an error that is printed, too.
    return command.run(work, errors=(*command.ERRORS, RuntimeError), goes_on=True)
