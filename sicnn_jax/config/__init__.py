"""The config of a run: its fields, how it is loaded, what may be wrong with it."""


class ConfigError(ValueError):
    """A config is not found, or its fields are unknown, mistyped or do not fit."""
