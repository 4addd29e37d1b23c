import socket

import numpy as np
import pytest
from PIL import Image

from sicnn_jax.data import align, detect
from sicnn_jax.data.records import DatasetError
from sicnn_jax.inference import Hallucinator, web_page
from tests.tiny_run import write_run


@pytest.fixture(scope='module')
def hallucinator(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('run')
    write_run(workdir)
    return Hallucinator(workdir)


def save(path, *size):
    Image.fromarray(np.full((*size, 3), 99, np.uint8)).save(path)
    return path


def test_a_large_face_is_compared_with_itself(hallucinator, tmp_path, monkeypatch):
    face = detect.DetectedFace(np.zeros(4), np.array(align.TEMPLATE), 1.0)
    monkeypatch.setattr(detect, 'find_faces', lambda photo, **options: [face])
    shown = web_page.describe(hallucinator, save(tmp_path / 'photo.png', 120, 100))
    titles = [title for _, title in shown]
    assert titles[0] == 'input' and titles[3] == 'original'
    assert titles[1].startswith('bicubic, similarity')
    assert titles[2].startswith('SICNN, similarity')
    assert {image.shape for image, _ in shown} == {(136, 96, 3)}
    assert (shown[3][0][:112] == 99).all()


def test_a_small_face_has_no_original(hallucinator, tmp_path):
    shown = web_page.describe(hallucinator, save(tmp_path / 'face.png', 14, 12))
    assert [title for _, title in shown[:3]] == ['input', 'bicubic', 'SICNN']
    assert shown[3][1].startswith('no original')
    assert (shown[3][0] == 255).all()


def test_what_is_refused(hallucinator, tmp_path, monkeypatch):
    (tmp_path / 'bad.png').write_bytes(b'no image')
    with pytest.raises(DatasetError, match='The file cannot be read as an image'):
        web_page.describe(hallucinator, tmp_path / 'bad.png')
    monkeypatch.setattr(detect, 'find_faces', lambda photo, **options: [])
    with pytest.raises(DatasetError, match='No face was found'):
        web_page.describe(hallucinator, save(tmp_path / 'photo.png', 50, 50))


def test_the_page_over_http(hallucinator, tmp_path):
    pytest.importorskip('gradio')
    from gradio_client import Client, handle_file

    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    page = web_page.build(hallucinator)
    web_page.launch(page, port, prevent_thread_lock=True, quiet=True)
    try:
        client = Client(
            f'http://127.0.0.1:{port}', verbose=False, download_files=str(tmp_path)
        )

        def ask(path):
            return client.predict(handle_file(str(path)), api_name='/hallucinate')

        shown = ask(save(tmp_path / 'face.png', 14, 12))
        assert [one['caption'] for one in shown[:3]] == ['input', 'bicubic', 'SICNN']
        (tmp_path / 'bad.png').write_bytes(b'no image')
        with pytest.raises(Exception, match='cannot be read as an image'):
            ask(tmp_path / 'bad.png')
        (tmp_path / 'huge.png').write_bytes(bytes(web_page.MAX_UPLOAD + 1))
        with pytest.raises(Exception, match='exceeds the maximum file size'):
            ask(tmp_path / 'huge.png')
    finally:
        page.close()
