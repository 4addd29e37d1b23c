"""A model, not a measurement, of a step's time on 1 to 512 accelerators.

    python -m benchmarks.scaling --devices=1,8,64,512

A step is what each accelerator computes (operations as counted by
benchmarks/counting.py, at a share of the published peak), its optimiser's way through
memory, and the averaging of gradients: all-reduces by rings, 2 (n − 1) / n · bytes /
bandwidth, first over the accelerators of a host and then, each with its part, over
hosts. The two ends of the range are without and with communication hidden behind
computation. Class weights split over devices save the all-reduce of their gradients
and cost a gather of all features, its counterpart in the backward pass and four sums or
maxima of the softmax over the batch.

What a model of this kind leaves out: that a share of the peak falls with the batch of a
device, input, stragglers, and congestion. Domain-integrated operations have CNNH's
forward pass in both updates, of which XLA saves one.
"""

import argparse
import dataclasses
import math

import jax

from benchmarks import counting
from benchmarks.measuring import append_record, markdown
from configs import di

WORKS = {
    'CNNR update': 'recognition',
    'CNNH update': 'hallucination',
    'domain-integrated iteration': 'domain_integrated',
}
_FLOAT = 4
# SGD with momentum reads parameter, momentum and gradient and writes the first two.
_UPDATE_BYTES = 5 * _FLOAT
# Of the split softmax: largest logit, sum, and the true identity's logit and owner.
_SOFTMAX_REDUCTIONS = 4


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Constants of an accelerator, in operations, bytes and seconds.

    Attributes:
      peak: operations a second.
      share: of the peak that is reached.
      memory: bytes a second from and to an accelerator's memory.
      inside: bytes a second and direction between accelerators of a host.
      between: bytes a second and direction of an accelerator to other hosts.
      host: accelerators of a host.
      hop: seconds until a message has arrived at the next in a ring.
    """

    peak: float
    share: float
    memory: float
    inside: float
    between: float
    host: int
    hop: float


@dataclasses.dataclass(frozen=True)
class Work:
    """What an iteration of a stage takes.

    Attributes:
      batch: images or pairs of the paper's batch.
      flop: operations for each.
      parameters: that are updated, without class weights.
      class_weights: numbers in them, 0 where the stage has none.
      faces: of each image or pair that the class weights are compared with.
      feature_dim: numbers of a face's identity feature.
    """

    batch: int
    flop: float
    parameters: int
    class_weights: int
    faces: int
    feature_dim: int


@dataclasses.dataclass(frozen=True)
class Step:
    """Seconds of the parts of a step."""

    compute: float
    update: float
    communication: float

    @property
    def one_after_the_other(self) -> float:
        return self.compute + self.update + self.communication

    @property
    def overlapped(self) -> float:
        return max(self.compute, self.communication) + self.update


def count(stage_name: str) -> Work:
    """The work of a stage of configs/di.py."""
    config = di.get_config()
    stage = config[stage_name]
    update, shapes = counting.iteration(config, stage_name)
    networks = {
        name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(network.params))
        for name, network in shapes[0].networks.items()
        if name in stage.optimizer
    }
    class_weights = networks.pop('class_weights', 0)
    return Work(
        batch=stage.batch_size,
        flop=2 * counting.multiply_adds(update, *shapes),
        parameters=sum(networks.values()),
        class_weights=class_weights,
        # Algorithm 1 shows CNNR the SR and the HR face of a pair.
        faces=2 if 'cnnh' in networks else 1,
        feature_dim=config.cnnr.feature_dim,
    )


def all_reduce(size: float, devices: int, hardware: Hardware) -> float:
    """Seconds to sum so many bytes over devices; a gather takes half of it."""
    inside = min(devices, hardware.host)
    hosts = devices // inside
    return _ring(size, inside, hardware.inside, hardware.hop) + _ring(
        size / inside, hosts, hardware.between, hardware.hop
    )


def _ring(size, members, bandwidth, hop):
    return 2 * (members - 1) * (size / members / bandwidth + hop)


def step(
    work: Work, images: float, devices: int, hardware: Hardware, *, split: bool
) -> Step:
    """A step of so many images a device.

    Args:
      work: of an iteration.
      images: images or pairs a device.
      devices: accelerators; whole hosts if more than one.
      hardware: their constants.
      split: class weights over devices, not replicated.
    """
    held = work.class_weights / devices if split else work.class_weights
    if split:
        faces = work.faces * images * devices
        communication = all_reduce(_FLOAT * work.parameters, devices, hardware)
        # A gather forward and a scattered sum backward are halves of an all-reduce.
        features = _FLOAT * work.feature_dim * faces
        communication += all_reduce(features, devices, hardware)
        communication += _SOFTMAX_REDUCTIONS * all_reduce(
            _FLOAT * faces, devices, hardware
        )
    else:
        size = _FLOAT * (work.parameters + work.class_weights)
        communication = all_reduce(size, devices, hardware)
    return Step(
        compute=work.flop * images / (hardware.peak * hardware.share),
        update=_UPDATE_BYTES * (work.parameters + held) / hardware.memory,
        communication=communication,
    )


def table(work: Work, devices: list[int], hardware: Hardware, *, growing: bool) -> str:
    """Markdown: a row for each number of devices."""
    alone = step(work, work.batch, 1, hardware, split=False)
    rate_alone = work.batch / alone.one_after_the_other
    rows = []
    for number in devices:
        images = work.batch if growing else work.batch / number
        if images < 1:
            rows.append((f'{number}', ['–'] * 7))
            continue
        now = step(work, images, number, hardware, split=False)
        times = now.one_after_the_other, now.overlapped
        rates = [images * number / seconds for seconds in times]
        shares = [rate / (number * rate_alone) for rate in rates]
        split = '–'
        if work.class_weights:
            other = step(work, images, number, hardware, split=True)
            split = f'{1e3 * other.communication:.2f}'
        rows.append(
            (
                f'{number}',
                [
                    f'{images:g}',
                    f'{1e3 * now.compute:.2f}',
                    f'{1e3 * now.update:.2f}',
                    f'{1e3 * now.communication:.2f}',
                    split,
                    f'{rates[0]:,.0f} – {rates[1]:,.0f}',
                    f'{shares[0]:.0%} – {shares[1]:.0%}',
                ],
            )
        )
    columns = (
        'batch a device',
        'computation, ms',
        'optimiser, ms',
        'communication, ms',
        'with class weights split, ms',
        'images/s',
        'of n times one',
    )
    return markdown(columns, rows, 'devices')


# Option → (default, what, source, factor to operations, bytes or seconds).
_CONSTANTS = {
    'peak': (989, 'TFLOP/s, dense bfloat16', 'published, H200', 1e12),
    'share': (0.4, 'of the peak that is reached', 'assumption', 1),
    'memory': (4.8, 'TB/s of memory', 'published, H200', 1e12),
    'inside': (450, 'GB/s a direction in a host', 'published, NVLink 900 in both', 1e9),
    'between': (50, 'GB/s to other hosts', 'published, 400 Gbit/s an accelerator', 1e9),
    'host': (8, 'accelerators a host', 'published, HGX H200', 1),
    'hop': (5, 'µs a hop of a ring', 'assumption', 1e-6),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--devices', default='1,8,64,512')
    for name, (default, what, source, _) in _CONSTANTS.items():
        parser.add_argument(
            f'--{name}',
            type=type(default),
            default=default,
            help=f'{what} ({source}: %(default)s)',
        )
    arguments = parser.parse_args()
    devices = [int(number) for number in arguments.devices.split(',')]
    given = {name: getattr(arguments, name) for name in _CONSTANTS}
    hardware = Hardware(**{n: v * _CONSTANTS[n][-1] for n, v in given.items()})
    print('A model from these constants, not a measurement:')
    for name, (default, what, source, _) in _CONSTANTS.items():
        note = source if given[name] == default else 'given'
        print(f'- {given[name]:g} {what} ({note})')
    works = {name: count(stage) for name, stage in WORKS.items()}
    for name, work in works.items():
        for growing in (False, True):
            batch = f'{work.batch} a device' if growing else f'{work.batch} in all'
            print(f'\n{name}, batch {batch}, {work.flop / 1e9:.1f} GFLOP an image:\n')
            print(table(work, devices, hardware, growing=growing))
    append_record(
        'scaling',
        {
            'kind': 'a model, not a measurement',
            'constants': given,
            'works': {name: dataclasses.asdict(work) for name, work in works.items()},
            'devices': devices,
        },
    )


if __name__ == '__main__':
    main()
