"""Where compiled programs are kept, and where they are not."""

import jax
import pytest

from sicnn_jax import compilation_cache

SETTINGS = (
    'jax_compilation_cache_dir',
    'jax_enable_compilation_cache',
    'jax_persistent_cache_min_compile_time_secs',
)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch, tmp_path):
    """As for a user with a home and no variable of JAX."""
    before = {name: jax.config.values[name] for name in SETTINGS}
    jax.config.update('jax_compilation_cache_dir', None)
    monkeypatch.setenv('HOME', str(tmp_path))
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def kept():
    """The directory that is chosen, None for none."""
    jax.config.update('jax_compilation_cache_dir', None)
    compilation_cache.keep_programs()
    return jax.config.values['jax_compilation_cache_dir']


def on(monkeypatch, tmp_path, cpu_info):
    path = tmp_path / 'cpuinfo'
    path.write_text(cpu_info)
    monkeypatch.setattr(compilation_cache, '_CPU_INFO', path)
    return kept()


def test_each_kind_of_cpu_has_a_directory_of_its_own(monkeypatch, tmp_path):
    one = on(monkeypatch, tmp_path, 'processor\t: 0\nflags\t\t: fpu avx512f\n')
    assert one.startswith(str(tmp_path / '.cache' / 'sicnn_jax' / 'cpu-'))
    more_of_it = 'processor\t: 0\nflags\t\t: fpu avx512f\n' * 2
    assert on(monkeypatch, tmp_path, more_of_it) == one
    assert on(monkeypatch, tmp_path, 'processor\t: 0\nflags\t\t: fpu avx2\n') != one


def test_without_a_description_each_machine_has_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(compilation_cache, '_CPU_INFO', tmp_path / 'nothing')
    places = []
    for name in ('a', 'b', 'a'):
        monkeypatch.setattr(compilation_cache.platform, 'node', lambda name=name: name)
        places.append(kept())
    assert places[0] == places[2] != places[1]


def test_another_directory_is_left_as_it_is(tmp_path):
    jax.config.update('jax_compilation_cache_dir', str(tmp_path / 'mine'))
    compilation_cache.keep_programs()
    assert jax.config.values['jax_compilation_cache_dir'] == str(tmp_path / 'mine')
    assert not (tmp_path / '.cache').exists()


@pytest.mark.parametrize('home', ['file', 'proc', 'none'])
def test_a_home_that_cannot_be_written_is_no_error(monkeypatch, tmp_path, home):
    (tmp_path / 'file').write_text('')
    homes = {'file': str(tmp_path / 'file'), 'proc': '/proc/1', 'none': 'relative'}
    monkeypatch.setenv('HOME', homes[home])
    assert kept() is None


def test_a_release_that_crashes_on_what_it_reads_keeps_nothing(monkeypatch):
    monkeypatch.setattr(jax, '__version_info__', (0, 5, 3))
    kept()
    assert not jax.config.values['jax_enable_compilation_cache']
