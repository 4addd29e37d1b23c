"""A run on disk is opened without what trains."""

import subprocess
import sys

import pytest

from configs import approaches, cnnh, di, real
from sicnn_jax import workdir
from sicnn_jax.evaluation.methods import compared_stages

OPENING = ('inference', 'export', 'report', 'evaluate', 'evaluation.verify', 'demo')
TRAINING = ('train', 'hooks', 'stages', 'optimizers', 'descent', 'algorithm')


def test_whoever_opens_a_run_loads_no_trainer():
    code = (
        'import sys\n'
        + ''.join(f'import sicnn_jax.{module}\n' for module in OPENING)
        + f'training = {["optax", "tensorboardX", *TRAINING]}\n'
        + 'names = [each.removeprefix("sicnn_jax.") for each in sys.modules]\n'
        + 'print(sorted(set(training) & set(names)))\n'
    )
    ran = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == '[]'


def test_a_directory_that_is_no_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=r'config\.json is missing: is .* the workdir'):
        workdir.read_config(tmp_path)


def test_every_last_cnnh_is_a_method_under_its_own_name_if_it_has_no_title():
    assert compared_stages(di.get_config()) == {
        'sr_only': 'sr_only',
        'sicnn': 'domain_integrated',
    }
    assert compared_stages(real.get_config()) == {'sr_only': 'sr_only'}
    assert compared_stages(cnnh.get_config()) == {'hallucination': 'hallucination'}
    assert list(compared_stages(approaches.get_config())) == [
        'approach_i',
        'approach_ii',
        'approach_iii',
    ]
    config = di.get_config()
    config.mine = config.domain_integrated
    config.stages = ('recognition', 'hallucination', 'sr_only', 'mine')
    assert compared_stages(config) == {'sr_only': 'sr_only', 'mine': 'mine'}
