import os
import signal
import socket
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sicnn_jax import demo
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


def test_a_port_that_cannot_be_had_says_so(monkeypatch, capsys):
    def unread(*_, **__):
        raise AssertionError('networks are read first')

    monkeypatch.setattr(demo, 'Hallucinator', unread)
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert demo.main([f'--port={port}']) == 1
    said = f'port {port}: Address already in use. Choose another one from 1024 to 65535'
    assert said in capsys.readouterr().err
    assert demo.main(['--port=99999']) == 1
    assert 'port must be 0-65535. Choose another' in capsys.readouterr().err
    web_page.check_port(port)


def test_the_page_needs_no_proxy_and_no_folder_of_others(monkeypatch):
    for name in ('no_proxy', 'NO_PROXY'):
        monkeypatch.setenv(name, 'example.org')
    monkeypatch.setenv('http_proxy', 'http://127.0.0.1:9')
    monkeypatch.delenv('GRADIO_TEMP_DIR', raising=False)
    with web_page.environment():
        assert urllib.request.proxy_bypass('127.0.0.1')
        folder = Path(os.environ['GRADIO_TEMP_DIR'])
        assert folder.stat().st_uid == os.getuid() and folder.stat().st_mode & 0o77 == 0
    assert not folder.exists()
    monkeypatch.delenv('GRADIO_TEMP_DIR')


def test_the_folder_of_pictures_goes_with_a_page_that_is_stopped(monkeypatch):
    monkeypatch.setenv('GRADIO_TEMP_DIR', '')
    monkeypatch.delenv('GRADIO_TEMP_DIR')
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), web_page.environment():
        folder = Path(os.environ['GRADIO_TEMP_DIR'])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    assert not folder.exists() and signal.getsignal(signal.SIGTERM) == before


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
