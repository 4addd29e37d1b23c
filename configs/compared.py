"""The budget that the compared methods share with SICNN, that of configs/di.py.

Stages: CNNR (recognition), which identity similarity is measured by; then twice the
method, as CNNH is trained twice: with the batches, schedule and optimiser of di.py's
hallucination, and those of its sr_only.
"""

from ml_collections import ConfigDict

from configs import di

VARIANTS = di.VARIANTS


def start(file: str, variant: str, kind: str) -> ConfigDict:
    """configs/di.py of a variant with the recognition stage alone, and no CNNH yet.

    Args:
      file: name of the config, for the error.
      variant: of `VARIANTS`.
      kind: of `sicnn_jax.models.KINDS`; the fields of its network are to be added.

    Raises:
      ValueError: there is no such variant.
    """
    if variant not in VARIANTS:
        raise ValueError(
            f'{file} has no variant {variant!r}; it has '
            f'{", ".join(v or "none (the paper)" for v in VARIANTS)}.'
        )
    config = di.get_config(variant)
    config.stages = ('recognition',)
    config.cnnh = ConfigDict({'kind': kind})
    del config.domain_integrated
    return config


def train(config: ConfigDict, method: str, update_rule: str, **weights: float) -> None:
    """Replaces the stages of CNNH by two of the method.

    Args:
      config: of `start`.
      method: name of its last stage, a stage of `sicnn_jax.methods.METHODS`.
      update_rule: of both.
      **weights: of both, such as `adversarial_weight`.
    """
    config[method] = config.sr_only
    del config.sr_only
    for name in ('hallucination', method):
        config[name].update_rule = update_rule
        config[name].update(weights)
    config.stages = ('recognition', 'hallucination', method)
