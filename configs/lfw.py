"""Real faces on two CPU cores: Labeled Faces in the Wild, networks of di.py:demo.

Expects shards of people with two or more images, folds 7 and 8 held out, and a
finished demo, whose recognition network the one here starts from:

    python -m sicnn_jax.data.prepare --source=lfw --landmarks=landmarks.txt \\
        --test_list=people_of_folds_7_and_8.txt --min_images=2 --out=data/lfw
    python -m sicnn_jax.main --config=configs/di.py:demo
    python -m sicnn_jax.main --config=configs/lfw.py --config.data.dir=data/lfw
    python -m sicnn_jax.evaluate --workdir=runs/lfw --pairs=pairs.txt --folds=7,8 \\
        --report=8 --judge=dlib
"""

from ml_collections import ConfigDict

from configs import di


def get_config() -> ConfigDict:
    config = di.get_config('demo')
    config.data.source = 'records'
    config.data.shift = 2
    config.recognition.init.cnnr = 'runs/di-demo/recognition'
    config.recognition.steps = 2_000
    config.recognition.evaluate_every = 500
    config.hallucination.steps = 1_500
    config.hallucination.evaluate_every = 500
    config.domain_integrated.annealing.offset = config.recognition.steps
    for name in ('sr_only', 'domain_integrated'):
        config[name].steps = 400
    return config
