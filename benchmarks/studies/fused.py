"""Algorithm 1 as two programs and as one: the gain of fusing the two updates.

    python -m benchmarks.studies.fused --config=di:demo --rounds=5 --steps=8

The command times iterations of `domain_integrated` on one batch that is already on the
device, in turn as two programs and as one, and prints medians and their ratio. Use
`--batch` on machines that are too small for the config's batch, and `--dtype=float32`
on CPUs without fast bfloat16.
"""

import argparse
import statistics

from benchmarks.measuring import append_record, in_turns, markdown, time_calls
from benchmarks.stages import stepper
from sicnn_jax import parallel
from sicnn_jax.config.load import load
from sicnn_jax.models.convolutions import use_winograd

_STAGE = 'domain_integrated'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default='di:demo')
    parser.add_argument('--batch', type=int, default=0, help="default: the config's")
    parser.add_argument('--dtype', default='', help="default: the config's")
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--steps', type=int, default=8)
    options = parser.parse_args()
    config = load(options.config)
    parallel.divide_cpu(config.cpu_devices)
    # Rendered faces need no shards.
    config.data.source = 'procedural'
    stage = config[_STAGE]
    stage.batch_size = options.batch or stage.batch_size
    if options.dtype:
        config.cnnr.dtype = config.cnnh.dtype = options.dtype
    timers = {}
    with use_winograd(config.winograd):
        for name, fused in (('two programs', False), ('one program', True)):
            stage.fused = fused
            timers[name] = _timer(config, options.steps)
    medians = in_turns(timers, options.rounds)
    found = {name: statistics.median(values) for name, values in medians.items()}
    two, one = found.values()
    print(
        markdown(
            ('s per iteration', 'of two programs'),
            [
                (name, [f'{seconds:.3f}', f'{seconds / two:.2f}'])
                for name, seconds in found.items()
            ],
            first='',
        )
    )
    append_record(
        'fused',
        {
            'config': options.config,
            'batch': stage.batch_size,
            'dtype': config.cnnh.dtype,
            'seconds': medians,
            'ratio': one / two,
        },
    )


def _timer(config, steps):
    """A function that times iterations; its first call compiles."""
    take_step = stepper(config, _STAGE)
    time_calls(take_step, 1)
    return lambda: time_calls(take_step, steps)


if __name__ == '__main__':
    main()
