"""CNNH alone: the hallucination network of Fig. 2a by L_SR, stage 2 of Sec. 4.1."""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.base()
    config.stages = ('hallucination',)
    config.hallucination = common.hallucination_stage()
    return config
