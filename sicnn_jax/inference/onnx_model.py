"""CNNH as an ONNX model, built from its layers."""

import types
from collections.abc import Mapping
from typing import Any

import numpy as np

from sicnn_jax import images, models
from sicnn_jax.inference.exported import INPUT, OUTPUT, describe, missing_extra


def to_onnx(params: Any, record: Mapping[str, Any]) -> bytes:
    """CNNH as an ONNX model in float32, from its parameters and its record.

    It is built from the layers, not traced: what is fast in XLA is not what is fast in
    an ONNX runtime.

    Raises:
      ValueError: onnx is not installed.
    """
    try:
        from onnx import TensorProto, checker, helper
    except ImportError as error:
        raise missing_extra('onnx', 'onnx') from error

    scale = record['scale']
    graph = _Graph(helper)
    graph.add('Transpose', INPUT, perm=[0, 3, 1, 2])
    planes = graph.last
    _add_cnnh(graph, params)
    if models.cnnh_from(record).bicubic_skip:
        graph.add('Add', graph.last, graph.enlarge(planes, scale))
    else:
        graph.add('Tanh', graph.last)
    graph.add('Transpose', graph.last, perm=[0, 2, 3, 1], output=OUTPUT)

    def value(name, height, width):
        shape = ['n', height, width, 3]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            'CNNH',
            [value(INPUT, *models.LR_SHAPES[scale])],
            [value(OUTPUT, images.HEIGHT, images.WIDTH)],
            graph.arrays,
        ),
        # Versions that runtimes of 2022 and later know.
        opset_imports=[helper.make_opsetid('', 17)],
        ir_version=8,
        producer_name='sicnn_jax',
    )
    helper.set_model_props(model, describe(record))
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


class _Graph:
    """ONNX nodes, each by default fed by the one before it."""

    def __init__(self, helper: types.ModuleType) -> None:
        self._helper = helper
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []
        self.last = ''

    def add(self, kind, *inputs, output='', **attributes):
        self.last = output or f'{kind}_{len(self.nodes)}'
        node = self._helper.make_node(kind, inputs, [self.last], **attributes)
        self.nodes.append(node)
        return self.last

    def array(self, name, value):
        from onnx import numpy_helper

        value = np.array(value, np.float32, order='C')
        self.arrays.append(numpy_helper.from_array(value, name))
        return name

    def conv(self, name, params, x):
        kernel = params['kernel'].transpose(3, 2, 0, 1)
        pads = [len(params['kernel']) // 2] * 4
        return self._weighted('Conv', name, kernel, params['bias'], x, pads=pads)

    def deconv(self, name, params, x):
        k = len(params['kernel'])
        # ONNX scatters where JAX gathers, so the kernel is turned by 180°.
        kernel = params['kernel'][::-1, ::-1].transpose(2, 3, 0, 1)
        # Of the 2h + k − 2 rows, these are 'SAME'; JAX has ⌈k / 2⌉ zeros before them.
        before = k - 1 - (k + 1) // 2
        after = k - 2 - before
        sides = {'strides': [2, 2], 'pads': [before, before, after, after]}
        return self._weighted('ConvTranspose', name, kernel, params['bias'], x, **sides)

    def _weighted(self, kind, name, kernel, bias, x, **attributes):
        weights = self.array(f'{name}.weight', kernel), self.array(f'{name}.bias', bias)
        return self.add(kind, x, *weights, **attributes)

    def enlarge(self, x, scale):
        """Bicubic as in `jax.image.resize`: a = −0.5, weights normalised at edges."""
        inputs = x, '', self.array('enlargement.scales', [1, 1, scale, scale])
        return self.add(
            'Resize',
            *inputs,
            mode='cubic',
            cubic_coeff_a=-0.5,
            exclude_outside=1,
            coordinate_transformation_mode='half_pixel',
        )

    def prelu(self, name, params, x):
        slope = self.array(f'{name}.weight', params['slope'].reshape(-1, 1, 1))
        return self.add('PRelu', x, slope)

    def dense_block(self, name, params, x):
        for layer in range(1, len(params) // 2 + 1):
            y = self.conv(f'{name}.conv{layer}', params[f'conv{layer}'], x)
            y = self.prelu(f'{name}.prelu{layer}', params[f'prelu{layer}'], y)
            x = self.add('Concat', x, y, axis=1)
        return x


def _add_cnnh(graph, params):
    """The layers of `models.CNNH` except its tanh, NCHW."""

    def conv_prelu(kind, name, prelu, x):
        return graph.prelu(prelu, params[prelu], kind(name, params[name], x))

    x = conv_prelu(graph.conv, 'stem', 'stem_prelu', graph.last)
    # A network of scale 4 has no stage 1.
    stages = [stage for stage in (1, 2, 3) if f'deconv{stage}' in params]
    for stage in stages:
        block = f'dense_block{stage}'
        x = graph.dense_block(block, params[block], x)
        x = conv_prelu(graph.deconv, f'deconv{stage}', f'deconv_prelu{stage}', x)
        x = conv_prelu(graph.conv, f'mapping{stage}', f'mapping_prelu{stage}', x)
    x = graph.dense_block('dense_block_final', params['dense_block_final'], x)
    graph.conv('reconstruction', params['reconstruction'], x)
