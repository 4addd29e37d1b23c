"""The files that make shards a data set of TFDS (`builder_from_directory`)."""

import os
from collections.abc import Mapping
from typing import Any

from sicnn_jax.data.runtime import import_tensorflow

FILES = ('dataset_info.json', 'features.json')


def write(directory: str | os.PathLike, name: str, sidecar: Mapping[str, Any]) -> None:
    """Writes the two files.

    Args:
      directory: of the data set.
      name: that its shards begin with.
      sidecar: the content of `faces.json`.
    """
    import_tensorflow()
    import tensorflow_datasets as tfds

    num_classes = max(len(split['identities']) for split in sidecar['splits'].values())
    template = tfds.core.ShardedFileTemplate(
        data_dir=directory, dataset_name=name, filetype_suffix='tfrecord'
    )
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features={
            'image': tfds.features.Image(
                shape=(*sidecar['image_size'], 3), encoding_format=sidecar['encoding']
            ),
            # Without names, because the name of label i differs between splits.
            'label': tfds.features.ClassLabel(num_classes=num_classes),
            'name': tfds.features.Text(),
            'key': tfds.features.Text(),
            'source': tfds.features.Text(),
        },
        split_infos=[
            tfds.core.SplitInfo(
                name=split_name,
                shard_lengths=[shard['examples'] for shard in split['shards']],
                num_bytes=sum(shard['bytes'] for shard in split['shards']),
                filename_template=template,
            )
            for split_name, split in sidecar['splits'].items()
        ],
        check_data=False,
    )
