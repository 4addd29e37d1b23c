"""Runs a command as N processes of one training on this machine, over loopback.

    python launch/local_multiprocess.py --processes=2 -- \
        python -m sicnn_jax.main --config=configs/di.py:demo

Each process gets JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, and
each line of its output begins with its number. SIGTERM and Ctrl-C go to all processes.
If one fails, the others cannot continue: they have --grace seconds to say so, and are
then killed.

Exit status: 0 if all ended well; 75 if all saved and stopped; else the status of the
first one that failed, or 128 + N if signal N killed it.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

_STOPPED = 75
_POLL = 0.2


def launch(command: Sequence[str], processes: int, *, grace: float = 10.0) -> int:
    """Runs a command in several processes, as the module describes.

    Args:
      command: program and arguments.
      processes: the number of processes.
      grace: seconds that the others have once one has failed.

    Returns:
      The exit status.
    """
    address = f'127.0.0.1:{_free_port()}'
    running = [
        subprocess.Popen(
            command,
            env=os.environ
            | {
                'JAX_COORDINATOR_ADDRESS': address,
                'JAX_NUM_PROCESSES': str(processes),
                'JAX_PROCESS_ID': str(index),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C is forwarded; otherwise each would get it twice, and end at once.
            start_new_session=True,
        )
        for index in range(processes)
    ]
    for index, process in enumerate(running):
        print(f'Process {index} is PID {process.pid}.', flush=True)
    outputs = [
        threading.Thread(target=_forward, args=(index, process.stdout))
        for index, process in enumerate(running)
    ]
    for output in outputs:
        output.start()

    def forward(number, _):
        for process in running:
            if process.poll() is None:
                process.send_signal(number)

    usual = {
        number: signal.signal(number, forward)
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        status = _wait(running, grace)
    finally:
        for process in running:
            process.kill()
        for output in outputs:
            output.join()
        for number, handler in usual.items():
            signal.signal(number, handler)
    return status


def _wait(running, grace):
    deadline = None
    first = 0
    while True:
        codes = [process.poll() for process in running]
        failed = [(i, c) for i, c in enumerate(codes) if c not in (None, 0, _STOPPED)]
        if failed and deadline is None:
            # A process killed by a signal is the reason why others failed meanwhile.
            index, code = min(failed, key=lambda one: one[1] > 0)
            first = 128 - code if code < 0 else code
            print(
                f'Process {index} ended with {code}; the others have {grace:g} s.',
                file=sys.stderr,
                flush=True,
            )
            deadline = time.monotonic() + grace
        if None not in codes:
            return first or (_STOPPED if _STOPPED in codes else 0)
        if deadline is not None and time.monotonic() > deadline:
            left = [i for i, code in enumerate(codes) if code is None]
            print(f'Killed: {", ".join(map(str, left))}', file=sys.stderr, flush=True)
            return first
        time.sleep(_POLL)


def _forward(index, stream):
    with stream:
        for line in stream:
            text = line.decode(errors='replace')
            print(f'[{index}] {text}', end='', flush=True)


def _free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--processes', type=int, required=True)
    parser.add_argument('--grace', type=float, default=10.0, help='seconds')
    parser.add_argument('command', nargs=argparse.REMAINDER, help='-- COMMAND …')
    arguments = parser.parse_args()
    command = arguments.command[arguments.command[:1] == ['--'] :]
    if arguments.processes < 1 or not command:
        parser.error('expected --processes=N, at least 1, and -- COMMAND …')
    return launch(command, arguments.processes, grace=arguments.grace)


if __name__ == '__main__':
    sys.exit(main())
