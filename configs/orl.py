"""Real faces on two CPU cores: the ORL database, 32 people × 10 grey images.

Too few to train on alone: all networks start from those of configs/lfw.py. s25 to s32
are held out:

    python -m sicnn_jax.data.prepare --source=orl_faces --test_list=s25_to_s32.txt \\
        --out=data/orl
    python -m sicnn_jax.main --config=configs/orl.py --config.data.dir=data/orl
    python -m sicnn_jax.evaluate --workdir=runs/orl --judge=dlib
"""

from ml_collections import ConfigDict

from configs import lfw


def get_config() -> ConfigDict:
    config = lfw.get_config()
    config.recognition.init.cnnr = 'runs/lfw/recognition'
    config.hallucination.init.cnnh = 'runs/lfw/hallucination'
    for name, steps in (
        ('recognition', 300),
        ('hallucination', 300),
        ('sr_only', 200),
        ('domain_integrated', 200),
    ):
        config[name].steps = steps
        config[name].evaluate_every = 100
        config[name].checkpoint_every = 100
    config.domain_integrated.annealing.offset = config.recognition.steps
    # 80 faces of 8 people make 360 pairs of the same person.
    config.evaluation.final_pairs = 600
    return config
