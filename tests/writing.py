"""Data sets that tests write."""

from sicnn_jax.data import records, write_records


def write_set(directory, splits, **options) -> records.DatasetInfo:
    """Writes faces by split, all drawn first; identities are theirs, sorted."""
    splits = {name: list(faces) for name, faces in splits.items()}
    names = {
        split: sorted({face.name for face in faces}) for split, faces in splits.items()
    }
    return write_records.write_dataset(directory, splits, identities=names, **options)
