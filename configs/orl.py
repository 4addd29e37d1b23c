"""Real faces on two CPU cores: the ORL database, 32 people × 10 grey images.

They are too few to train on alone, so all networks start from those of configs/lfw.py.
s25 to s32 are held out:

    python -m sicnn_jax.data.prepare --source=orl_faces --test_list=s25_to_s32.txt \\
        --out=data/orl
    python -m sicnn_jax.main --config=configs/orl.py --config.data.dir=data/orl
    python -m sicnn_jax.evaluate --workdir=runs/orl --judge=dlib

"Real faces" in docs/notes/narrow_networks.md has its results with narrow networks. It
has not been trained with light networks yet.
"""

from ml_collections import ConfigDict

from configs import lfw

STEPS = (300, 300, 200)


def get_config() -> ConfigDict:
    config = lfw.experiment(
        STEPS,
        cnnr='runs/lfw/recognition',
        cnnh='runs/lfw/hallucination',
        evaluate_every=(100, 100, 100),
        checkpoint_every=100,
    )
    # 80 faces of 8 people make 360 pairs of the same person.
    config.evaluation.final_pairs = 600
    return config
