"""The config of a run: its fields, loading and checking."""


class ConfigError(ValueError):
    """A config is missing, or its fields are unknown, mistyped or contradictory."""
