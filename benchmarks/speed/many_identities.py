"""Memory per device of class weights and their optimiser: replicated and split.

    python -m benchmarks.speed.many_identities --identities=100000 --devices=1,2,4,8
    python -m benchmarks.speed.many_identities --identities=1000000 --devices=8 \\
        --ways=split

The command takes a step of the recognition stage of configs/di.py:demo with many
identities, on simulated CPU devices unless there are accelerators. It prints the memory
that the class weights and their optimiser state take on the first device, and the
seconds of a step. Every run has its own process. Simulated devices share the cores of
one machine, so their times say nothing about accelerators.
"""

import argparse
import os

import jax

from benchmarks.measuring import append_record, in_own_process, time_calls

# The values of `--ways`.
_IS_SPLIT = {'replicated': False, 'split': True}


def measure(identities: int, devices: int, split: bool) -> dict:
    """Places the state, takes steps and measures the first device's memory."""
    os.environ['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={devices}'
    # Imported here, because these modules start the backend, which reads the variable.
    from benchmarks.stages import prepare
    from configs import di

    config = di.get_config('demo')
    config.data.source = 'procedural'
    config.data.identities = identities
    config.recognition_loss.split_identities = split
    update, state, batch = prepare(config, 'recognition')
    held = jax.tree.leaves(state.networks['class_weights'])
    size = sum(leaf.addressable_shards[0].data.nbytes for leaf in held)

    def take_step():
        nonlocal state, metrics
        state, metrics = update(state, batch)
        return metrics

    metrics = None
    _, seconds = time_calls(take_step, 2)
    return {
        'identities': identities,
        'devices': devices,
        'split': split,
        'mib_a_device': size / 2**20,
        'step_seconds': seconds,
        'loss': float(metrics['recognition_loss'][0]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--identities', type=int, default=100_000)
    parser.add_argument('--devices', default='1,2,4,8')
    parser.add_argument('--ways', default=','.join(_IS_SPLIT), help='one or both')
    arguments = parser.parse_args()
    ways = arguments.ways.split(',')
    if not _IS_SPLIT.keys() >= set(ways):
        parser.error(
            f'--ways={arguments.ways}: expected some of {", ".join(_IS_SPLIT)}'
        )
    print(f'{"devices":>8}{"split":>8}{"MiB/device":>14}{"step":>10}{"loss":>12}')
    for devices in map(int, arguments.devices.split(',')):
        for split in map(_IS_SPLIT.get, ways):
            record = in_own_process(measure, arguments.identities, devices, split)
            print(
                f'{devices:>8}{split!s:>8}{record["mib_a_device"]:14.1f}'
                f'{record["step_seconds"]:8.2f} s{record["loss"]:12.5f}',
                flush=True,
            )
            append_record('many_identities', record)


if __name__ == '__main__':
    main()
