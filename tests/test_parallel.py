"""Replication, sharding and prefetching on eight simulated devices."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from sicnn_jax import parallel


def test_replicate_and_unreplicate_are_inverse():
    tree = {'a': np.arange(6.0).reshape(2, 3), 'b': (np.int32(7), ())}
    replicated = parallel.replicate(tree)
    assert replicated['a'].shape == (8, 2, 3)
    assert len(replicated['a'].sharding.device_set) == 8
    np.testing.assert_equal(parallel.unreplicate(replicated), tree)


@pytest.mark.parametrize('size', [16, 13, 3])
def test_split_and_unsplit_are_inverse(size):
    tree = {'w': np.arange(2.0 * size).reshape(2, size), 'count': np.int32(7)}
    split = parallel.split(tree)
    share = -(-size // 8)
    assert split['w'].shape == (8, 2, share)
    assert {shard.data.shape for shard in split['w'].addressable_shards} == {
        (1, 2, share)
    }
    np.testing.assert_equal(parallel.unsplit(split, size), tree)


def test_shard_keeps_the_order_of_the_batch():
    batch = {'x': np.arange(16)}
    sharded = parallel.shard(batch)
    np.testing.assert_array_equal(sharded['x'], np.arange(16).reshape(8, 2))
    shards = sharded['x'].addressable_shards
    assert [shard.device for shard in shards] == jax.devices()


def test_batch_that_does_not_split_is_refused():
    with pytest.raises(ValueError, match='batch of 9 does not split over 8'):
        parallel.shard({'x': np.arange(9)})


def test_prefetch_yields_every_batch_in_order_and_stays_ahead():
    drawn = []

    def batches():
        for step in range(5):
            drawn.append(step)
            yield {'x': np.full(8, step)}

    prefetched = parallel.prefetch(batches(), ahead=2)
    first = next(prefetched)
    assert drawn == [0, 1, 2]
    rest = [int(batch['x'][0, 0]) for batch in prefetched]
    assert [int(first['x'][0, 0]), *rest] == [0, 1, 2, 3, 4]


def test_stacked_batches_keep_their_order():
    batches = ({'x': 100 * step + np.arange(16)} for step in range(5))
    stacks = [np.asarray(b['x']) for b in parallel.prefetch(batches, together=2)]
    assert len(stacks) == 2
    assert stacks[1].shape == (8, 2, 2)
    np.testing.assert_array_equal(stacks[1][:, 0].reshape(-1), 200 + np.arange(16))
    np.testing.assert_array_equal(stacks[1][:, 1].reshape(-1), 300 + np.arange(16))


def test_parallel_averages_gradients_over_devices():
    def update(state, batch):
        return state + jax.lax.pmean(batch.mean(), 'batch'), {'mean': batch.mean()}

    state = parallel.replicate(np.float32(1))
    state, _ = parallel.map_over_devices(update)(state, parallel.shard(np.arange(16.0)))
    assert parallel.unreplicate(state) == 1 + np.arange(16).mean()


@pytest.mark.parametrize('shape', [(), (3,), (2, 5, 7)])
def test_large_arrays_are_sent_in_pieces(shape, monkeypatch):
    sent = []

    def communicate(piece):
        sent.append(piece.nbytes)
        return np.concatenate([np.atleast_1d(piece)] * 2)

    monkeypatch.setattr(parallel, '_PIECE', 64)
    leaf = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = parallel._in_pieces(communicate, leaf, copies=2)
    np.testing.assert_array_equal(found, np.concatenate([np.atleast_1d(leaf)] * 2))
    # One column of the last, which is the least that can be sent, has 40 bytes.
    assert max(sent) <= 40 and sum(sent) == leaf.nbytes


@pytest.mark.parametrize(('flags', 'devices'), [('', 2), ('{}=3', 3)])
def test_a_cpu_is_divided_unless_the_environment_says_otherwise(flags, devices):
    code = (
        'import jax; from sicnn_jax import parallel; parallel.divide_cpu(2); '
        f'assert jax.device_count() == {devices}; '
        # In use: they stay as they are.
        f'parallel.divide_cpu(5); assert jax.device_count() == {devices}'
    )
    name = '--xla_force_host_platform_device_count'
    environment = os.environ | {'XLA_FLAGS': flags.format(name)}
    subprocess.run([sys.executable, '-c', code], env=environment, check=True)
