"""The command `sicnn`: the commands of the package, from any directory.

    sicnn train --config=di:demo
    sicnn report --workdir=runs/di-demo

Each command is the module of the same name with its flags (`sicnn COMMAND --help`).
Shipped configs are found by name. The start-up messages of TensorFlow and XLA are
hidden.
"""

import contextlib
import os
import runpy
import sys
from collections.abc import Sequence

import sicnn_jax
from sicnn_jax import command
from sicnn_jax.config import find

# Command → module and description.
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status.

    0: done; 1: an error, which is printed (hallucinate: no face was found); 2: wrong
    usage; 75: stopped by a signal, the same command continues; 130: interrupted.
    """
    command.speak()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    quiet, verbose = '--quiet' in arguments, '--verbose' in arguments
    arguments = [each for each in arguments if each not in ('--quiet', '--verbose')]
    first, rest = arguments[:1], arguments[1:]
    if first == ['--version']:
        print(f'sicnn_jax {sicnn_jax.__version__}')
        return 0
    if first in ([], ['help'], ['-h'], ['--help']):
        print(_help())
        return command.DONE if first else command.USAGE
    (name,) = first
    if name not in COMMANDS:
        return command.fail(
            f'{name!r} is not a command; expected one of {", ".join(COMMANDS)}.',
            command.USAGE,
        )
    given = {argument.partition('=')[0] for argument in rest}
    if name == 'verify' and not given & {'--pairs', '--help', '-h'}:
        return command.fail(
            '--pairs is missing: a list of pairs, such as --pairs=pairs.txt '
            '--images=lfw, or InsightFace’s --pairs=lfw.bin.',
            command.USAGE,
        )
    # TensorFlow, XLA and gRPC read these when they are loaded.
    if verbose:
        os.environ['TF_CPP_MIN_LOG_LEVEL'] = '0'
    else:
        os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
        os.environ.setdefault('GRPC_VERBOSITY', 'ERROR')
    if name == 'train':
        try:
            for value in find.given(find.join_value(rest)):
                find.find(value)
        except ValueError as error:
            return command.fail(error, command.USAGE)
        if verbose:
            # This silences Orbax as well.
            rest.append('--verbosity=0')
    # The command itself prints its errors.
    return command.run(_run, COMMANDS[name][0], rest, quiet, errors=())


def _run(module, arguments, quiet):
    sys.argv = [module, *arguments]
    try:
        with contextlib.ExitStack() as stack:
            if quiet:
                nowhere = stack.enter_context(open(os.devnull, 'w', encoding='utf-8'))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            # As `python -m` does, so that processes started by it find the module.
            runpy.run_module(module, run_name='__main__', alter_sys=True)
    except SystemExit as stop:
        # absl's help ends with status 1.
        return command.DONE if '--help' in arguments else stop.code
    return command.DONE


def _help():
    commands = '\n'.join(f'  {name:<13}{what}' for name, (_, what) in COMMANDS.items())
    return (
        'usage: sicnn COMMAND [--quiet | --verbose] …\n\n'
        f'{commands}\n\n'
        '  --quiet      print only errors\n'
        '  --verbose    also print messages of TensorFlow, XLA and Orbax\n'
        '  --version\n\n'
        f'Configs that ship: {", ".join(find.names())}; for example\n'
        '  sicnn train --config=di:demo\n\n'
        'sicnn COMMAND --help lists its flags. Exit status: 0 done, 1 error, '
        '2 wrong usage,\n75 stopped by a signal (the same command continues).'
    )


if __name__ == '__main__':
    sys.exit(main())
