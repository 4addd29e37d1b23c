"""The model of scaling against its closed form."""

import dataclasses

import pytest

from benchmarks import scaling

HARDWARE = scaling.Hardware(
    peak=1e12, share=0.5, memory=1e12, inside=1e9, between=1e8, host=8, hop=0.0
)
WORK = scaling.Work(
    batch=64,
    flop=1e9,
    parameters=10**6,
    class_weights=10**5,
    faces=2,
    feature_dim=25,
)


def test_nothing_is_sent_to_oneself():
    assert scaling.all_reduce(1e9, 1, HARDWARE) == 0


def test_a_host_is_one_ring():
    assert scaling.all_reduce(1e9, 4, HARDWARE) == pytest.approx(2 * 3 / 4)


def test_hosts_reduce_a_part_each():
    inside = 2 * 7 / 8
    between = 2 * 3 / 4 * (1e9 / 8) / 1e8
    assert scaling.all_reduce(1e9, 32, HARDWARE) == pytest.approx(inside + between)


def test_every_hop_takes_its_time():
    slow = dataclasses.replace(HARDWARE, hop=1.0)
    assert scaling.all_reduce(0, 32, slow) == 2 * 7 + 2 * 3


def test_parts_of_a_step():
    step = scaling.step(WORK, 8, 8, HARDWARE, split=False)
    assert step.compute == pytest.approx(8 * 1e9 / 0.5e12)
    assert step.update == pytest.approx(20 * 1.1e6 / 1e12)
    assert step.communication == pytest.approx(2 * 7 / 8 * 4 * 1.1e6 / 1e9)
    assert step.overlapped == pytest.approx(step.compute + step.update)


def test_split_class_weights_are_not_reduced_but_features_are_gathered():
    step = scaling.step(WORK, 8, 8, HARDWARE, split=True)
    features, softmax = 4 * 25 * 2 * 64, 4 * 4 * 2 * 64
    expected = 2 * 7 / 8 * (4 * 1e6 + features + softmax) / 1e9
    assert step.communication == pytest.approx(expected)
    assert step.update == pytest.approx(20 * (1e6 + 1e5 / 8) / 1e12)


def test_a_batch_smaller_than_the_devices_is_not_modelled():
    table = scaling.table(WORK, [64, 128], HARDWARE, growing=False)
    assert [line.count('–') > 6 for line in table.splitlines()[2:]] == [False, True]
