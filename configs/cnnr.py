"""CNNR alone: the recognition network of Table 1, stage 1 of Sec. 4.1."""

from ml_collections import ConfigDict

from configs import di
from sicnn_jax.config import schema


def get_config() -> ConfigDict:
    config = schema.base()
    config.stages = ('recognition',)
    config.recognition = di.recognition_stage()
    return config
