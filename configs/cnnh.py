"""CNNH alone: the hallucination network of Fig. 2a by L_SR, stage 2 of Sec. 4.1."""

from ml_collections import ConfigDict

from configs import di
from sicnn_jax.config import schema


def get_config() -> ConfigDict:
    config = schema.base()
    config.stages = ('hallucination',)
    config.hallucination = di.second_stage('', 'hallucination')
    return config
