"""Names of files that are no UTF-8, or spelled in two ways."""

import json
import os
import unicodedata

import pytest

from sicnn_jax import names
from sicnn_jax.results_file import write_results

LATIN = os.fsdecode(b'caf\xe9.png')
COMPOSED = unicodedata.normalize('NFC', 'café.png')
APART = unicodedata.normalize('NFD', COMPOSED)


def test_what_is_printed_is_one_line_of_utf8():
    assert names.printable(LATIN) == r'caf\xe9.png'
    assert names.printable('a\nb\x1b[0m') == r'a\x0ab\x1b[0m'
    assert names.printable('\ud800') == r'\ud800'
    for name in (COMPOSED, APART, '脸 1.png', r'a\b'):
        assert names.printable(name) == name


def test_no_name_costs_a_report(tmp_path):
    report = {'files': [LATIN, 'good.png', 'a\nb'], LATIN: '\ud800'}
    write_results(report, tmp_path / 'report.json')
    read = json.loads((tmp_path / 'report.json').read_bytes())
    printed = r'caf\xe9.png'
    assert read == {'files': [printed, 'good.png', 'a\nb'], printed: r'\ud800'}
    assert names.encode(f'<p>\n{LATIN}') == b'<p>\ncaf\\xe9.png'


def test_a_name_meets_itself_however_it_is_spelled():
    known = names.ByName({APART: 1, LATIN: 2, 'plain': 3})
    assert [known[APART], known[COMPOSED], known[LATIN], known['plain']] == [1, 1, 2, 3]
    assert known[r'caf\xe9.png'] == 2 and known.spelling(COMPOSED) == APART
    assert 'cafe.png' not in known and known.get('cafe.png') is None
    assert dict(known) == {APART: 1, LATIN: 2, 'plain': 3}
    both = names.ByName({COMPOSED: 1, APART: 2})
    assert (both[COMPOSED], both[APART]) == (1, 2)


@pytest.mark.parametrize(
    ('present', 'given'),
    [(APART, COMPOSED), (COMPOSED, APART), (LATIN, r'caf\xe9.png'), ('a', 'a')],
)
def test_files_are_found_however_they_are_spelled(present, given, tmp_path):
    folder = tmp_path / present / 'x'
    folder.mkdir(parents=True)
    file = folder / present
    try:
        file.touch()
    except OSError:
        pytest.skip('this disk takes only UTF-8')
    found = names.find(tmp_path / given / 'x' / given)
    assert os.path.samefile(found, file)


def test_what_is_not_there_stays_as_it_is(tmp_path):
    assert names.find(tmp_path / COMPOSED / 'x') == str(tmp_path / COMPOSED / 'x')
    assert names.find('é') == 'é'
