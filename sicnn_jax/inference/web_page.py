"""The web page, and the images that it shows for a picture."""

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

# Only this machine can reach the page.
_HOST = '127.0.0.1'
# A picture may have at most this many bytes.
MAX_UPLOAD = 20 * 1024**2
# With this many pictures waiting, later users are told that the page is busy.
_MAX_WAITING = 16
# Seconds that pictures stay on disk.
_KEPT = 3600
# At most this many faces of a picture are shown, the largest.
_MAX_FACES = 12
# The title of a face covers this many rows below it.
_TITLE = 24
# From this many pixels of a picture per pixel of the input on, the picture is an
# original to compare with.
_ORIGINAL_FROM = 2.0


def describe(
    hallucinator: Hallucinator, path: str | os.PathLike
) -> list[tuple[np.ndarray, str]]:
    """The images and titles that the page shows for each face of a picture.

    Returns:
      Four pairs of uint8 [136, 96, 3] and a title for each face: input, bicubic, SICNN
      and the original, or white if the picture does not have it. The lowest 24 rows are
      white, because the title is shown over them.

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
        margin = (0, _TITLE), (0, 0), (0, 0)
        for image, title in zip((enlarged, bicubic, sr, hr), titles, strict=True):
            shown.append((np.pad(image, margin, constant_values=255), title))
    return shown


def check_port(port: int) -> None:
    """Checks, before networks are loaded, that the page can listen at the port.

    Raises:
      ValueError: another program listens there, or this user may not use the port.
    """
    try:
        with socket.socket() as trial:
            # As for the page itself: the port of a page that just ended is free.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((_HOST, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, 'strerror', str(error).rstrip('.'))
        raise ValueError(
            f'the page cannot be at port {port}: {reason}. '
            f'Choose another one from 1024 to 65535, such as --port=7861.'
        ) from error


@contextlib.contextmanager
def environment() -> Iterator[None]:
    """Sets gradio's environment variables while the page runs.

    gradio reads them when it is imported. The page requests nothing from other hosts,
    and reaches itself without a proxy. Pictures lie in a folder of this process, which
    is deleted with it: gradio's own folder may be another user's.
    """
    os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')
    for name in ('no_proxy', 'NO_PROXY'):
        os.environ[name] = '*'
    # SIGTERM acts like Ctrl-C; otherwise the folder would stay.
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
            # Only the text is shown: the page must not tell where files lie.
            raise gradio.Error(str(error), print_exception=False) from error

    height, width = hallucinator.lr_shape[:2]
    with gradio.Blocks(
        title='SICNN', analytics_enabled=False, delete_cache=(_KEPT, _KEPT)
    ) as page:
        gradio.Markdown(
            f'# SICNN\nFaces of {width}×{height} pixels → 96×112. Larger faces are '
            'made small first, so that you can compare the result with the original. '
            'What it adds is a guess, not evidence of who somebody is.'
        )
        # Not gradio.Image, which would decode every format that Pillow can.
        picture = gradio.File(label='Picture', type='filepath')
        gallery = gradio.Gallery(
            label='Faces', columns=4, object_fit='contain', format='png'
        )
        picture.change(
            show, picture, gallery, concurrency_limit=1, api_name='hallucinate'
        )
    return page.queue(max_size=_MAX_WAITING, default_concurrency_limit=1)


def launch(page: Any, port: int, **options: Any) -> Any:
    """Opens the page of `build` to this machine alone.

    It takes the options of `gradio.Blocks.launch` and returns what that returns.
    """
    return page.launch(
        server_name=_HOST,
        server_port=port,
        share=False,
        max_file_size=MAX_UPLOAD,
        **options,
    )


def _similarities(hallucinator, faces, hr):
    """The similarity of each face to its original; none if the run has no CNNR."""
    features = hallucinator.features(np.concatenate([faces, hr[None]]))
    if features is None:
        return []
    original = np.repeat(features[-1:], len(faces), axis=0)
    return metrics.pair_scores(features[:-1], original)
