"""The web page: what it shows of a picture, and the page itself."""

import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from sicnn_jax import metrics, pictures
from sicnn_jax.data import align, image_files
from sicnn_jax.data.records import DatasetError
from sicnn_jax.inference.hallucinator import Hallucinator, magnification

# This machine alone.
_HOST = '127.0.0.1'
_OTHER_PORT = 7861
# Bytes of a picture.
MAX_UPLOAD = 20 * 1024**2
# Pictures waiting; whoever comes later is told that the page is busy.
_MAX_WAITING = 16
# Seconds that pictures stay on disk.
_KEPT = 3600
# Faces of one picture, the largest.
_MAX_FACES = 12
# Rows below a face that its title covers.
_TITLE = 24
# Pixels of a picture for one of the input, from which on it is an original to
# compare with.
_ORIGINAL_FROM = 2.0


def describe(
    hallucinator: Hallucinator, path: str | os.PathLike
) -> list[tuple[np.ndarray, str]]:
    """What the page shows of a picture: for each face, images and their titles.

    Args:
      hallucinator: the network.
      path: of the picture.

    Returns:
      uint8 [136, 96, 3] and title, four for each face: input, bicubic, SICNN, and the
      original, or white where the picture does not have it. The lowest 24 rows are
      white, for the title that is shown over them.

    Raises:
      DatasetError: the file is not an image, or there is no face in it.
    """
    photo = image_files.load_image(str(path), 'The file')
    faces = hallucinator.locate(photo, rotations=True)
    if not faces:
        raise DatasetError('No face was found in this picture.')
    faces = sorted(faces, key=lambda face: -face.box[2] * face.box[3])[:_MAX_FACES]
    lr = np.stack([hallucinator.network_input(photo, face.landmarks) for face in faces])
    made = (pictures.enlarge_pixels(lr), hallucinator.enlarge(lr), hallucinator(lr))
    shown: list[tuple[np.ndarray, str]] = []
    for face, enlarged, bicubic, sr in zip(faces, *made, strict=True):
        titles = ['input', 'bicubic', 'SICNN', 'original']
        if magnification(face.landmarks, hallucinator.scale) * _ORIGINAL_FROM <= 1:
            hr = align.align_face(photo, face.landmarks)
            alike = _similarities(hallucinator, np.stack([bicubic, sr]), hr)
            for column, value in enumerate(alike, start=1):
                titles[column] += f', similarity {value:.2f}'
        else:
            hr = np.full_like(sr, 255)
            titles[-1] = 'no original: as small as the input'
        shown += zip(
            map(_with_margin, (enlarged, bicubic, sr, hr)), titles, strict=True
        )
    return shown


def check_port(port: int) -> None:
    """That the page can listen there, before networks are loaded.

    Raises:
      ValueError: another program listens, or there is no such port for this user.
    """
    try:
        with socket.socket() as trial:
            # As the page's own: of one that has just ended, the port is free.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((_HOST, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, 'strerror', str(error).rstrip('.'))
        raise ValueError(
            f'the page cannot be at port {port}: {reason}. '
            f'Choose another one from 1024 to 65535, such as --port={_OTHER_PORT}.'
        ) from error


@contextlib.contextmanager
def environment() -> Iterator[None]:
    """What gradio goes by, while the page is there.

    gradio reads it when it is imported. The page asks for nothing from elsewhere, and
    itself through no proxy. Pictures lie in a folder of this process, which goes with
    it: the one of gradio may be another user's.
    """
    os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')
    for name in ('no_proxy', 'NO_PROXY'):
        os.environ[name] = '*'
    # As Ctrl-C: without it the folder would stay.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(
            prefix='sicnn_jax_demo_', ignore_cleanup_errors=True
        ) as folder:
            os.environ.setdefault('GRADIO_TEMP_DIR', folder)
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def build(hallucinator: Hallucinator) -> Any:
    """The page, a `gradio.Blocks`.

    Raises:
      ImportError: the extra `demo` is not installed.
    """
    import gradio

    def show(path):
        if path is None:
            return []
        try:
            return describe(hallucinator, path)
        except DatasetError as error:
            # Only its text: the page says nothing of where files lie.
            raise gradio.Error(str(error), print_exception=False) from error

    height, width = hallucinator.lr_shape[:2]
    with gradio.Blocks(
        title='SICNN', analytics_enabled=False, delete_cache=(_KEPT, _KEPT)
    ) as page:
        gradio.Markdown(
            f'# SICNN\nFaces of {width}×{height} pixels → 96×112. Larger faces are '
            'made small first, so that you see how near the network comes. What it '
            'adds is a guess, not evidence of who somebody is.'
        )
        # A file, not gradio.Image, which would decode whatever Pillow can.
        picture = gradio.File(label='Picture', type='filepath')
        gallery = gradio.Gallery(
            label='Faces', columns=4, object_fit='contain', format='png'
        )
        picture.change(
            show, picture, gallery, concurrency_limit=1, api_name='hallucinate'
        )
    return page.queue(max_size=_MAX_WAITING, default_concurrency_limit=1)


def launch(page: Any, port: int, **options: Any) -> Any:
    """Opens the page to this machine alone; returns what `gradio.Blocks.launch` does.

    Args:
      page: of `build`.
      port: to listen on.
      **options: of `gradio.Blocks.launch`.
    """
    return page.launch(
        server_name=_HOST,
        server_port=port,
        share=False,
        max_file_size=MAX_UPLOAD,
        **options,
    )


def _with_margin(face):
    return np.pad(face, ((0, _TITLE), (0, 0), (0, 0)), constant_values=255)


def _similarities(hallucinator, faces, hr):
    """Of each face to the original; none where the run has nothing to measure it."""
    features = hallucinator.features(np.concatenate([faces, hr[None]]))
    if features is None:
        return []
    return metrics.pair_scores(
        features[:-1], np.repeat(features[-1:], len(faces), axis=0)
    )
