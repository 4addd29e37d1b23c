"""CNNR alone: the recognition network of Table 1, stage 1 of Sec. 4.1."""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.base()
    config.stages = ('recognition',)
    config.recognition = common.recognition_stage()
    return config
