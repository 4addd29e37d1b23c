"""Errors that several parts of the package raise."""


class CheckpointError(ValueError):
    """A checkpoint or a network is missing, damaged, or of other conventions."""


class DeviceError(ValueError):
    """JAX cannot start a device of the kind that it is told to use."""
