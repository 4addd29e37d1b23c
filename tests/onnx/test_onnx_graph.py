"""What is read of ONNX files, and the files that are refused."""

import os
import sys

import numpy as np
import pytest

from sicnn_jax.errors import CheckpointError
from sicnn_jax.onnx.graph import read_graph
from sicnn_jax.onnx.interpret import evaluate
from tests.onnx.onnx_files import (
    Network,
    TensorProto,
    by_jax,
    check_same,
    helper,
    normal,
    numpy_helper,
    onnx,
)

SHAPE = ['n', 3, 8, 8]


def small():
    """A convolution, a bounded activation and a dense layer."""
    network = Network()
    y = network.conv('x', 3, 4, 3, bias=True)
    y = network.add('Clip', y, np.float32(0), np.float32(6))
    y = network.add('Flatten', network.add('Mul', y, np.float32(0.5)))
    network.add('Gemm', y, normal(4 * 36, 5))
    return network


@pytest.fixture
def path(tmp_path):
    return small().save(tmp_path / 'network.onnx', SHAPE)


def test_weights_are_parameters_and_bounds_are_constants(path):
    graph = read_graph(path)
    sizes = {name: array.shape for name, array in graph.parameters.items()}
    assert sizes == {
        'layer/0.weight': (4, 3, 3, 3),
        'layer/1.weight': (4,),
        'layer/5.weight': (144, 5),
    }
    assert [float(value) for value in graph.constants.values()] == [0, 6, 0.5]
    assert (graph.input, graph.shape, graph.opset) == ('x', ('n', 3, 8, 8), 17)
    assert graph.outputs == ('gemm_4',) and graph.path == str(path)
    first = graph.nodes[0]
    assert (first.operator, first.inputs[0], first.outputs) == (
        'Conv',
        'x',
        ('conv_0',),
    )
    assert first.attributes == {'group': 1}


def test_single_numbers_are_parameters_where_weights_stand(tmp_path):
    network = Network()
    y = network.norm(network.conv('x', 3, 1, 3, bias=True), 1)
    network.add('Add', network.add('PRelu', y, normal(1)), np.float32(2))
    graph = read_graph(network.save(tmp_path / 'network.onnx', SHAPE))
    # Kernel and bias, scale and bias, slope; two statistics and the number.
    assert (len(graph.parameters), len(graph.constants)) == (5, 3)
    assert 2 in graph.constants.values()


def test_an_unused_array_is_left_out(tmp_path):
    network = small()
    network.arrays['unused'] = normal(3, 3)
    graph = read_graph(network.save(tmp_path / 'network.onnx', SHAPE))
    assert 'unused' not in {**graph.parameters, **graph.constants}


@pytest.mark.parametrize(
    'dtype',
    [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE],
    ids=TensorProto.DataType.Name,
)
def test_parameters_are_float32_whatever_the_file_has(tmp_path, dtype):
    numbers = [0.5, -1.25, 3.0]
    graph = helper.make_graph(
        [helper.make_node('Mul', ['x', 'w'], ['y'])],
        'network',
        [helper.make_tensor_value_info('x', dtype, [None, 2, 3])],
        [helper.make_tensor_value_info('y', dtype, None)],
        [helper.make_tensor('w', dtype, [3], numbers)],
    )
    path = tmp_path / 'network.onnx'
    onnx.save(helper.make_model(graph), path)
    graph, x = read_graph(path), normal(2, 3)
    assert graph.parameters['w'].dtype == np.float32
    np.testing.assert_array_equal(graph.parameters['w'], numbers)
    (y,) = evaluate(graph, graph.parameters, x)
    np.testing.assert_allclose(y, x * numbers, rtol=1e-6)


def test_constants_are_arrays_like_initialisers(tmp_path):
    network = Network()
    weights = network.add('Constant', value=numpy_helper.from_array(normal(3, 8, 8)))
    y = network.add('Mul', 'x', weights)
    y = network.add('Add', y, network.add('Constant', value_float=2.5))
    y = network.add('Add', y, network.add('Constant', value_floats=[1.0] * 8))
    channel = network.add('Gather', y, network.add('Constant', value_int=1), axis=1)
    network.add('Reshape', channel, network.add('Constant', value_ints=[-1, 64]))
    path = network.save(tmp_path / 'network.onnx', SHAPE)
    check_same(path, normal(2, 3, 8, 8))
    graph = read_graph(path)
    assert {name: array.size for name, array in graph.parameters.items()} == {
        weights: 192,
        'constant_4': 8,
    }
    assert 'Constant' not in {node.operator for node in graph.nodes}
    network = Network()
    network.add('Identity', network.add('Constant', value_string='x'))
    network.save(path, SHAPE)
    with pytest.raises(
        CheckpointError, match=r"'constant_0' .* value_string; expected"
    ):
        read_graph(path)


def test_initialisers_that_are_inputs_too_are_arrays(path):
    # Files of ONNX before 1.4 list them so, and open sizes as 0 or −1.
    model = onnx.load(path)
    for name in ('layer/0.weight', 'layer/1.weight'):
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, [4])
        model.graph.input.insert(0, info)
    dims = model.graph.input[-1].type.tensor_type.shape.dim
    dims[0].dim_value, dims[2].dim_value = -1, 0
    onnx.save(model, path)
    graph = read_graph(path)
    assert (graph.input, graph.shape) == ('x', (None, 3, None, 8))
    assert 'layer/0.weight' in graph.parameters


def test_all_unknown_operators_are_named(tmp_path):
    network = Network()
    y = network.add('Relu', network.add('QLinearConv', *['x'] * 8))
    y = network.add('QLinearConv', y, *['x'] * 7)
    y = network.add('FusedConv', y, domain='com.microsoft')
    network.add('DequantizeLinear', y, np.float32(1))
    path = network.save(tmp_path / 'network.onnx', SHAPE)
    with pytest.raises(CheckpointError, match='not quantised') as refusal:
        read_graph(path)
    for named in (
        str(path),
        "QLinearConv (node 'qlinearconv_0' and 1 more)",
        "com.microsoft.FusedConv (node 'fusedconv_3')",
        "DequantizeLinear (node 'dequantizelinear_4')",
    ):
        assert named in str(refusal.value)
    assert "(node 'relu" not in str(refusal.value)


def test_training_mode_is_refused(tmp_path):
    network = Network()
    network.norm('x', 3, training_mode=1)
    path = network.save(tmp_path / 'network.onnx', SHAPE)
    with pytest.raises(CheckpointError, match=r'Export the network for inf'):
        by_jax(path, normal(1, 3, 8, 8))


@pytest.mark.parametrize(
    ('inputs', 'found'),
    [
        (
            [('x', 'FLOAT', [1, 3]), ('labels', 'INT64', [1])],
            "'x' .* 'labels' .INT64, 1",
        ),
        ([('x', 'UINT8', [1, 3])], "'x' .UINT8, 2 axes"),
        ([('x', 'FLOAT', None)], "'x' .FLOAT, 0 axes"),
        ([], 'none; expected one'),
    ],
)
def test_other_inputs_are_refused(tmp_path, inputs, found):
    path = tmp_path / 'network.onnx'
    infos = [
        helper.make_tensor_value_info(name, getattr(TensorProto, dtype), shape)
        for name, dtype, shape in inputs
    ]
    output = helper.make_tensor_value_info('y', TensorProto.FLOAT, None)
    nodes = [helper.make_node('Relu', ['x'], ['y'])]
    graph = helper.make_graph(nodes, 'network', infos, [output])
    onnx.save(helper.make_model(graph), path)
    with pytest.raises(CheckpointError, match=f'has the inputs: {found}'):
        read_graph(path)


def test_old_operators_are_refused(tmp_path):
    path = small().save(tmp_path / 'network.onnx', SHAPE, opset=6)
    with pytest.raises(CheckpointError, match='version 6; expected 7 or newer'):
        read_graph(path)


def test_values_that_nothing_makes_are_refused(tmp_path):
    network = Network()
    network.add('Relu', 'y')
    path = network.save(tmp_path / 'network.onnx', SHAPE)
    with pytest.raises(CheckpointError, match=r"'relu_0' \(Relu\) takes 'y'"):
        read_graph(path)
    network.nodes[0].input[0] = 'x'
    network.save(path, SHAPE, 'features')
    with pytest.raises(CheckpointError, match="nothing makes the output 'features'"):
        read_graph(path)


def test_files_that_are_no_networks_are_refused(tmp_path, monkeypatch):
    path = tmp_path / 'network.onnx'
    with pytest.raises(CheckpointError, match='is missing'):
        read_graph(path)
    path.write_bytes(b'')
    with pytest.raises(CheckpointError, match='0 nodes and 0 outputs'):
        read_graph(path)
    path.write_bytes(b'no network')
    with pytest.raises(CheckpointError, match='cannot be opened'):
        read_graph(path)
    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(CheckpointError, match=r"pip install 'sicnn_jax\[onnx\]'"):
        read_graph(path)


def test_damaged_files_are_refused(path):
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for length in random.integers(1, len(whole), 60):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=path.name):
            read_graph(path)
    for place in random.integers(0, len(whole), 150):
        damaged = bytearray(whole)
        damaged[place] ^= random.integers(1, 256)
        path.write_bytes(damaged)
        try:
            read_graph(path)
        except CheckpointError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 10


def write_external(path, **entries):
    """The network with its arrays in other files; what is said of one is changed."""
    model = small().model(SHAPE)
    onnx.save_model(
        model, path, save_as_external_data=True, location='weights', size_threshold=0
    )
    model = onnx.load(path, load_external_data=False)
    tensor = model.graph.initializer[0]
    said = {entry.key: entry.value for entry in tensor.external_data} | entries
    del tensor.external_data[:]
    for key, value in said.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def test_data_beside_the_file_is_read(tmp_path):
    path = write_external(tmp_path / 'network.onnx')
    assert (tmp_path / 'weights').stat().st_size > 4 * 144 * 5
    check_same(path, normal(2, 3, 8, 8))


def test_data_elsewhere_is_refused(tmp_path):
    folder = tmp_path / 'networks'
    folder.mkdir()
    path = write_external(folder / 'network.onnx')
    elsewhere = tmp_path / 'weights'
    elsewhere.write_bytes((folder / 'weights').read_bytes())
    os.symlink(elsewhere, folder / 'link')
    os.symlink(tmp_path, folder / 'folder')
    for location in ('../weights', str(elsewhere), str(folder / 'weights'), 'link'):
        write_external(path, location=location)
        with pytest.raises(
            CheckpointError, match=r"'layer/0.weight'.*inside the folder"
        ):
            read_graph(path)
    write_external(path, location='folder/weights')
    with pytest.raises(CheckpointError, match='expected a file inside the folder'):
        read_graph(path)
    # One that stays inside is none of these.
    os.symlink('weights', folder / 'inside')
    write_external(path, location='inside')
    assert by_jax(path, normal(1, 3, 8, 8)).shape == (1, 5)


@pytest.mark.parametrize(
    ('entries', 'message'),
    [
        ({'location': 'missing'}, 'there is no file'),
        ({'location': ''}, 'there is no file'),
        ({'length': '100000'}, "100000 bytes from byte 0 of 'weights', which has"),
        ({'offset': '-4'}, 'from byte -4'),
        ({'offset': '100000'}, 'from byte 100000'),
        ({'length': 'all'}, 'Fetch both files again'),
        ({'length': '8'}, "'layer/0.weight' is damaged"),
    ],
)
def test_damaged_data_beside_the_file_is_refused(tmp_path, entries, message):
    path = write_external(tmp_path / 'network.onnx', **entries)
    with pytest.raises(CheckpointError, match=message):
        read_graph(path)
