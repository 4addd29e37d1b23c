"""The command `sicnn`: the commands of the package, from any directory.

    sicnn train --config=di:demo
    sicnn report --workdir=runs/di-demo

Each is the module of the same name with its flags (`sicnn COMMAND --help`), and shipped
configs are found by name. The start-up messages of TensorFlow and XLA are left out.
"""

import contextlib
import os
import runpy
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import TextIO

from sicnn_jax.config import find

# Command → module, and what it does.
COMMANDS = {
    'train': ('sicnn_jax.main', 'train the stages of a config and evaluate the result'),
    'prepare': ('sicnn_jax.data.prepare', 'turn photographs into a data set of faces'),
    'describe': (
        'sicnn_jax.describe',
        "write a teacher's features of a data set, for distillation",
    ),
    'evaluate': ('sicnn_jax.evaluate', 'compare the methods of a finished run again'),
    'verify': ('sicnn_jax.evaluate', 'verify pairs, LFW, YTF or others (--pairs=FILE)'),
    'reproduce': (
        'sicnn_jax.reproduce',
        'the tables and figures of the paper, trained and evaluated',
    ),
    'hallucinate': ('sicnn_jax.hallucinate', 'hallucinate the faces of photographs'),
    'demo': ('sicnn_jax.demo', 'the same as a web page on this machine'),
    'export': ('sicnn_jax.export', 'write CNNH as ONNX, StableHLO or safetensors'),
    'report': ('sicnn_jax.report', 'write an HTML page about a run'),
}

_USAGE, _INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status.

    0: done; 1: an error, which is named (hallucinate: no face was found); 2: wrong
    usage; 75: stopped by a signal, the same command continues; 130: interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    quiet = _take(arguments, '--quiet')
    verbose = _take(arguments, '--verbose')
    first, rest = arguments[:1], arguments[1:]
    if first == ['--version']:
        print(f'sicnn_jax {metadata.version("sicnn_jax")}')
        return 0
    if first in ([], ['help'], ['-h'], ['--help']):
        print(_help())
        return 0 if first else _USAGE
    (command,) = first
    if command not in COMMANDS:
        return _fail(
            f'{command!r} is no command; expected one of {", ".join(COMMANDS)}.', _USAGE
        )
    if command == 'verify' and not _has_flag(rest, '--pairs', '--help', '-h'):
        return _fail(
            '--pairs is missing: a list of pairs, such as --pairs=pairs.txt '
            '--images=lfw, or InsightFace’s --pairs=lfw.bin.',
            _USAGE,
        )
    _set_noise(verbose)
    if command == 'train':
        try:
            for value in find.given(find.join_value(rest)):
                find.find(value)
        except ValueError as error:
            return _fail(str(error), _USAGE)
        if verbose:
            # Orbax's lines as well.
            rest.append('--verbosity=0')
    return _run(COMMANDS[command][0], rest, quiet)


def _run(module, arguments, quiet):
    sys.argv = [module, *arguments]
    try:
        with _silence() if quiet else contextlib.nullcontext():
            # As `python -m` does, so that processes that it starts find it again.
            runpy.run_module(module, run_name='__main__', alter_sys=True)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            return _fail(stop.code.removeprefix('Error: '), 1)
        # absl's help has the status 1.
        return 0 if '--help' in arguments else stop.code or 0
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough, such as `head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


@contextlib.contextmanager
def _silence():
    with (
        open(os.devnull, 'w', encoding='utf-8') as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        yield


def _fail(message, status):
    print(f'{paint("Error:", sys.stderr)} {message}', file=sys.stderr)
    return status


def paint(text: str, stream: TextIO) -> str:
    """Text in red where the stream is a terminal and NO_COLOR is not set."""
    if not stream.isatty() or os.environ.get('NO_COLOR'):
        return text
    return f'\033[31m{text}\033[0m'


def _set_noise(verbose):
    """What TensorFlow, XLA and gRPC say when they start; read when they are loaded."""
    if verbose:
        os.environ['TF_CPP_MIN_LOG_LEVEL'] = '0'
        return
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    os.environ.setdefault('GRPC_VERBOSITY', 'ERROR')


def _take(arguments, flag):
    found = flag in arguments
    while flag in arguments:
        arguments.remove(flag)
    return found


def _has_flag(arguments, *flags):
    return any(argument.partition('=')[0] in flags for argument in arguments)


def _help():
    commands = '\n'.join(f'  {name:<13}{what}' for name, (_, what) in COMMANDS.items())
    return (
        'usage: sicnn COMMAND [--quiet | --verbose] …\n\n'
        f'{commands}\n\n'
        '  --quiet      nothing but errors\n'
        '  --verbose    what TensorFlow, XLA and Orbax have to say, too\n'
        '  --version\n\n'
        f'Configs that ship: {", ".join(find.names())}; for example\n'
        '  sicnn train --config=di:demo\n\n'
        'sicnn COMMAND --help lists the flags of one. Exit status: 0 done, 1 error, '
        '2 wrong usage,\n75 stopped by a signal (the same command continues).'
    )


if __name__ == '__main__':
    sys.exit(main())
