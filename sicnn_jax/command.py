"""The parser, exit status and one-line errors that all commands share."""

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sicnn_jax import paths
from sicnn_jax.errors import of_system

# Done; an error, which is printed; wrong usage, as in argparse; asked to stop
# (EX_TEMPFAIL: the same command continues); interrupted, as in shells for SIGINT.
DONE, ERROR, USAGE, STOPPED, INTERRUPTED = 0, 1, 2, 75, 130

# Errors printed in one line, in addition to those of the system. Any other error is our
# fault and keeps its traceback.
ERRORS: tuple[type[Exception], ...] = (ValueError,)


def speak() -> None:
    """Makes output escape characters that its encoding lacks, such as λ on Windows."""
    for stream in (sys.stdout, sys.stderr):
        # Notebooks and tests have their own streams.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')


def parser(
    name: str, doc: str, *, epilog: str | None = None
) -> argparse.ArgumentParser:
    """The parser of `python -m sicnn_jax.NAME`.

    Its help begins with `doc`, the docstring of the module, and ends with `epilog`.
    """
    speak()
    return argparse.ArgumentParser(
        prog=f'python -m sicnn_jax.{name}',
        description=doc,
        epilog=epilog,
        formatter_class=_Help,
    )


def path(text: str) -> Path:
    """The type of a flag that is a path."""
    if not text:
        raise argparse.ArgumentTypeError('it is empty; expected a path')
    return _typed(paths.local, text)


def path_or_name(text: str) -> str:
    """The type of a flag that is a path, or a word in its place; '' for neither."""
    return _typed(paths.expand, text)


def count(text: str) -> int:
    """The type of a flag that is a positive whole number."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f'{text!r} is not a positive whole number')
    return int(text)


def run(
    function: Callable[..., int | None],
    *arguments: Any,
    errors: tuple[type[Exception], ...] = ERRORS,
    goes_on: bool = False,
) -> int:
    """Runs a command; returns its exit status.

    Args:
      function: returns a status, or None if it is done.
      errors: to print in one line, in addition to those of the system.
      goes_on: whether the same command continues after Ctrl-C.
    """
    speak()
    try:
        return function(*arguments) or DONE
    except KeyboardInterrupt:
        if goes_on:
            print('Interrupted; the same command continues.', file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    except Exception as error:
        words = in_words(error, errors)
        if words is None:
            raise
        return fail(words)


def in_words(
    error: Exception, errors: tuple[type[Exception], ...] = ERRORS
) -> str | None:
    """The one-line message for an error; None if its traceback is needed."""
    refused = of_system(error)
    return str(error) if refused is None and isinstance(error, errors) else refused


def fail(error: object, status: int = ERROR) -> int:
    """Prints an error, in colour on a terminal without NO_COLOR; returns the status."""
    in_colour = sys.stderr.isatty() and not os.environ.get('NO_COLOR')
    first = '\033[31mError:\033[0m' if in_colour else 'Error:'
    print(f'{first} {error}', file=sys.stderr)
    return status


class _Help(
    argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter
):
    """Keeps the lines of the docstring, and shows defaults that are values."""

    def _get_help_string(self, action):
        # 0 is a value, although it equals False.
        unsaid = action.default in (None, '', [], ()) or action.default is False
        if unsaid or 'default' in action.help:
            return action.help
        return super()._get_help_string(action)


def _typed(function, text):
    try:
        return function(text)
    except paths.PathError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
