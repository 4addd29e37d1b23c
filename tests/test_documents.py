"""README and docs: what they show is there, and runs."""

import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from sicnn_jax import cli, workdir
from sicnn_jax.reproduction import flags
from tests.documents import ROOT, blocks, commands
from tests.tiny_training import xla_flags

PAGES = ['README.md', 'CONTRIBUTING.md'] + [
    str(path.relative_to(ROOT)) for path in sorted((ROOT / 'docs').rglob('*.md'))
]
# Packages whose names the pages use, and names of files.
ELSEWHERE = ('jax', 'tests')
SCHEMA = ROOT / 'sicnn_jax' / 'config' / 'schema.py'
# Of absl and of the command `sicnn`.
EVERYWHERE = {'help', 'verbose', 'quiet', 'version', 'verbosity'}


def calls(page):
    """Module and arguments of each command of ours that a page shows."""
    for line in commands(page):
        words = shlex.split(line, comments=True)
        for at, word in enumerate(words):
            if word == 'sicnn' and words[at + 1] in cli.COMMANDS:
                yield cli.COMMANDS[words[at + 1]][0], words[at + 2 :]
            elif word == '-m' and words[at + 1].startswith(('sicnn_jax', 'benchmarks')):
                yield words[at + 1], words[at + 2 :]


@pytest.mark.parametrize('page', PAGES)
def test_commands_have_the_flags_that_are_shown(page):
    for module, arguments in calls(page):
        source = importlib.util.find_spec(module).origin
        text = Path(source).read_text(encoding='utf-8')
        if 'add_network_flags(' in text:
            text += Path(workdir.__file__).read_text(encoding='utf-8')
        if ' add_flags(' in text:
            text += Path(flags.__file__).read_text(encoding='utf-8')
        for argument in arguments:
            flag = argument.removeprefix('--').partition('=')[0]
            if not argument.startswith('--') or flag in EVERYWHERE:
                continue
            if flag.startswith('config.'):
                field = flag.rpartition('.')[2]
                configs = [*(ROOT / 'configs').glob('*.py'), SCHEMA]
                assert any(field in path.read_text() for path in configs), argument
            else:
                named = re.search(rf"'(--)?{flag}'", text)
                assert named, f'{page}: {module} has no --{flag}'


def test_the_pages_show_commands():
    shown = {module for page in PAGES for module, _ in calls(page)}
    # The page on this machine is named in the text.
    assert {module for module, _ in cli.COMMANDS.values()} - shown <= {'sicnn_jax.demo'}


@pytest.mark.parametrize(
    ('page', 'imports'), [('README.md', 3), ('docs/library.md', 10)]
)
def test_the_python_of_a_page_runs(tmp_path, page, imports):
    """From its first line to its last, as a reader would."""
    code = '\n'.join(blocks(page, 'python'))
    if 'shard_map' in code and not hasattr(jax, 'shard_map'):
        pytest.skip('jax.shard_map is newer than this JAX')
    assert code.count('import') > imports
    environment = {'XLA_FLAGS': xla_flags(1), 'PYTHONPATH': str(ROOT)}
    command = [sys.executable, '-c', code]
    subprocess.run(command, check=True, cwd=tmp_path, env=os.environ | environment)


def test_what_the_pages_name_is_there():
    """`module.name` of paper_to_code.md, and what the API pages and library.md have."""
    folder = ROOT / 'docs'
    text = (folder / 'paper_to_code.md').read_text() + (
        folder / 'library.md'
    ).read_text()
    named = re.findall(r'`([a-z_]+(?:\.(?!py\b)\w+)+)[(`]', text)
    named += re.findall(
        r'^::: sicnn_jax\.([\w.]+)$',
        ''.join(path.read_text() for path in (folder / 'api').glob('*.md')),
        re.MULTILINE,
    )
    named = [name.removeprefix('sicnn_jax.') for name in named]
    missing = [name for name in named if not resolves(name)]
    assert len(named) > 60 and missing == []


def resolves(name):
    """Whether the package has a module or a name in it; other packages do not count."""
    module, _, attributes = name.partition('.')
    if importlib.util.find_spec(f'sicnn_jax.{module}') is None:
        return module in ELSEWHERE
    value = importlib.import_module(f'sicnn_jax.{module}')
    for attribute in filter(None, attributes.split('.')):
        if not hasattr(value, attribute):
            submodule = f'{value.__name__}.{attribute}'
            if not hasattr(value, '__path__') or not importlib.util.find_spec(
                submodule
            ):
                return False
            value = importlib.import_module(submodule)
        else:
            value = getattr(value, attribute)
    return True


def quoted():
    """What the tables of the troubleshooting page quote of messages of ours."""
    text = (ROOT / 'docs' / 'troubleshooting.md').read_text(encoding='utf-8')
    for line in text.splitlines():
        for quote in re.findall(r'`([^`]+)`', line.partition(' | ')[0]):
            yield from (part.strip() for part in quote.split('…') if part.strip())


def test_the_troubleshooting_page_quotes_messages_that_there_are():
    texts = [path.read_text() for path in (ROOT / 'sicnn_jax').rglob('*.py')]
    # Sentences go over several literals.
    package = re.sub(r"['\"]\s+f?['\"]", '', ''.join(texts))
    package = re.sub(r'\{[^{}]*\}', '', package)
    missing = [
        part for part in quoted() if part not in package and 'NVIDIA' not in part
    ]
    assert missing == []


def test_the_site_builds(tmp_path):
    pytest.importorskip('mkdocstrings', reason="needs the extra 'docs'")
    if shutil.which('mkdocs', path=Path(sys.executable).parent) is None:
        pytest.skip("needs the extra 'docs'")
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '-d', tmp_path]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    page = (tmp_path / 'api' / 'losses' / 'index.html').read_text()
    assert 'sicnn_jax.losses.a_softmax_loss' in page
    assert page.count('<math') > 5 and '$$' not in page
