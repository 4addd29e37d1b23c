"""Paths as users write them, in every flag of every command."""

import argparse
import functools
import importlib
import os
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from sicnn_jax import cli, command, paths, train, workdir
from sicnn_jax.data import records
from sicnn_jax.data.preparing.preparation import prepare
from sicnn_jax.evaluation.judge import load_judge
from sicnn_jax.inference import Hallucinator

# Flags of any text: names and patterns, and a directory that TFDS knows to read.
TEXTS = {'--name', '--row', '--runner', '--split', '--data_dir', '--identity'}
MODULES = sorted(
    {module for module, _ in cli.COMMANDS.values()} - {'sicnn_jax.main'}
    | {'sicnn_jax.pytorch_weights', 'sicnn_jax.evaluation.judge'}
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home directory; what is relative is in another one."""
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    return tmp_path / 'home'


def test_home_is_where_the_shell_has_it(home):
    assert paths.local('~') == home
    assert paths.local('~/a/b') == paths.local(Path('~/a/b')) == home / 'a' / 'b'
    assert paths.expand('~root/x') == os.path.expanduser('~root/x') != '~root/x'
    assert paths.local('a/~/b') == Path('a/~/b')
    with pytest.raises(paths.PathError, match=r"no user 'nobody-here' .* write \./~no"):
        paths.local('~nobody-here/x')


def test_names_that_only_look_like_a_home():
    Path('~backup.png').touch()
    assert paths.local('~backup.png').read_bytes() == b''
    # Written so, it stays that directory however often it goes through.
    found = paths.local('./~/x')
    assert paths.local(found) == found == Path.cwd() / '~' / 'x'


@pytest.mark.parametrize('word', ['', 'dlib', 'centroids', 'tfds:lfw', 'a:b', 'C:/x'])
def test_words_stay_as_they_are(word):
    assert paths.expand(word) == word


@pytest.mark.parametrize(
    ('address', 'remedy'),
    [
        ('gs://bucket/x', r'mount the bucket \(gcsfuse\)'),
        ('S3://bucket', 'mount the bucket'),
        ('hdfs://name:8020/x', 'mount the bucket and'),
        ('https://host/x.zip', 'download it'),
        ('file:///data/x', 'write /data/x$'),
        # As pathlib has it.
        (Path('gs://bucket/x'), 'mount the bucket'),
    ],
)
def test_addresses_are_refused_with_what_to_do(address, remedy):
    with pytest.raises(paths.PathError, match=remedy):
        paths.local(address)


def test_a_folder_may_be_called_like_an_address():
    Path('gs:').mkdir()
    assert paths.local('gs:/x') == Path('gs:/x')
    with pytest.raises(paths.PathError):
        paths.local('gs://x')


@pytest.mark.parametrize('module', MODULES)
def test_every_flag_that_takes_a_path_reads_it_so(module, monkeypatch):
    class Seen(Exception):
        pass

    def see(parser, *_):
        raise Seen(parser)

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', see)
    monkeypatch.setattr(argparse.ArgumentParser, 'parse_known_args', see)
    with pytest.raises(Seen) as seen:
        importlib.import_module(module).main([])
    kinds = {
        action.option_strings[-1] if action.option_strings else action.dest: action.type
        for action in seen.value.args[0]._actions
        if action.nargs != 0 and not action.choices
    }
    assert {flag for flag, kind in kinds.items() if kind is None} <= TEXTS
    assert Path not in kinds.values()
    assert {command.path, command.path_or_name} & {*kinds.values()}


def test_a_wrong_path_is_wrong_usage(capsys):
    parser = argparse.ArgumentParser()
    workdir.add_network_flags(parser)
    for given, said in (('gs://b/x', 'gcsfuse'), ('', 'it is empty')):
        with pytest.raises(SystemExit, match='2'):
            parser.parse_args([f'--checkpoint={given}'])
        assert said in capsys.readouterr().err


def test_the_library_reads_them_likewise(home):
    for call in (Hallucinator, load_judge, workdir.read_config):
        with pytest.raises(paths.PathError, match='mount the bucket'):
            call('gs://bucket/run')
        with pytest.raises(ValueError, match=str(home / 'run')):
            call(Path('~/run'))
    with pytest.raises(paths.PathError, match='mount the bucket'):
        prepare('people', 'gs://bucket/faces')
    assert not os.listdir()


@pytest.mark.parametrize(
    'call',
    [
        Hallucinator,
        records.read_dataset_info,
        functools.partial(prepare, 'people'),
        functools.partial(train.run, ConfigDict(), checked=True),
    ],
)
def test_directories_that_libraries_cannot_open_are_refused_at_once(call):
    latin = Path(os.fsdecode(b'caf\xe9'))
    with pytest.raises(paths.PathError, match=r'caf\\xe9/x has a name .* ln -s'):
        call(latin / 'x')
    assert not os.listdir()


def test_where_nothing_can_be_written_is_noticed():
    paths.check_writable(Path('new/folder'))
    assert os.listdir('new/folder') == []
    Path('file').touch()
    with pytest.raises(
        paths.PathError, match=r'^file takes no files \(.*\): do this\.$'
    ):
        paths.check_writable(Path('file'), 'do this')
