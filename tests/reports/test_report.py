"""The page about a run: what is in it, what is left out and why."""

import json
import re

import numpy as np
import pytest

from sicnn_jax import report
from sicnn_jax.config import schema
from sicnn_jax.data import dataset
from sicnn_jax.reports import html_page
from tests.tiny_run import write_run

RESULTS = {
    'rows': [
        {'method': 'hr', 'verification_accuracy': 0.98},
        {'method': 'bicubic', 'psnr': 23.4, 'ssim': 0.57, 'identity_similarity': 0.4},
        {'method': 'sicnn', 'psnr': 24.5, 'ssim': None, 'identity_similarity': 0.6},
    ],
    'data': 'a <b>',
    'faces': 1000,
    'identities': 100,
    'pairs': 2000,
    'judge': {'name': 'packaged'},
    'device': 'cpu',
    'machine': 'x86_64',
    'versions': {'jax': '0.1'},
}


class FewFaces:
    def test_faces(self, limit):
        faces = np.random.default_rng(0).integers(0, 256, (5, 112, 96, 3), np.uint8)
        return faces[:limit], np.arange(5)[:limit]


@pytest.fixture
def workdir(tmp_path):
    write_run(tmp_path)
    config = schema.base()
    config.stages = ('recognition', 'domain_integrated')
    for name in config.stages:
        config[name] = schema.stage(
            'hallucination', steps=40, batch_size=8, optimizers={}, data_seed=0, best=''
        )
    (tmp_path / 'config.json').write_text(config.to_json())
    lines = [
        {'step': 20, 'super_resolution_loss': 900.0, 'images_per_second': 4.0},
        {'step': 40, 'super_resolution_loss': 8.0, 'images_per_second': 8.0},
    ]
    (tmp_path / 'domain_integrated' / 'metrics.jsonl').write_text(
        ''.join(json.dumps(line) + '\n' for line in lines) + '{"step": 6'
    )
    return tmp_path


def write(workdir):
    assert report.main([f'--workdir={workdir}']) == 0
    return (workdir / 'report.html').read_text()


def test_a_whole_page_asks_for_nothing_from_elsewhere(workdir, monkeypatch):
    monkeypatch.setattr(dataset, 'open_faces', lambda *_: FewFaces())
    (workdir / 'results.json').write_text(json.dumps(RESULTS))
    page = write(workdir)
    assert not re.search(r'https?:|url\(|@import|<link|src="(?!data:)', page)
    sources = re.findall(r'<img class="(\w+)"[^>]* src="data:image/png;base64,', page)
    assert sources == ['lr', 'bicubic', 'sicnn', 'hr'] * 5
    assert page.count('mean 0') == 2  # histograms: bicubic and SICNN
    assert 'Left out: there is no metrics.jsonl' in page  # of the recognition stage
    assert 'super resolution loss: 8 at the end' in page
    # 160 faces at 4 a second and 160 at 8: a minute.
    assert '>40 of 40<' in page and '>6.0<' in page and '>1.0<' in page
    assert 'evaluation.final_pairs' in page


def test_ours_beside_the_papers(workdir, monkeypatch):
    monkeypatch.setattr(dataset, 'open_faces', lambda *_: FewFaces())
    (workdir / 'results.json').write_text(json.dumps(RESULTS))
    page = write(workdir)
    (row,) = re.findall(r'<tr><td><code>SICNN</code></td>(.*?)</tr>', page)
    cells = re.findall(r'>([^<>]*)</td>', row)
    assert cells == ['24.50', '26.89', '', '0.769', '0.6000', '0.598', '', '']
    assert '(a &lt;b&gt;)' in page


@pytest.mark.parametrize(
    ('content', 'reason'),
    [('{"stages": []}', "it lacks 'data', 'scale'"), ('{', 'Expecting'), ('[1]', '')],
)
def test_a_damaged_config_is_named(workdir, content, reason, capsys):
    (workdir / 'config.json').write_text(content)
    assert report.main([f'--workdir={workdir}']) == 1
    said = capsys.readouterr().err
    assert 'config.json is damaged, or another program wrote it: ' + reason in said
    assert not (workdir / 'report.html').exists()


def test_verification_beside_the_papers(workdir, monkeypatch):
    monkeypatch.setattr(dataset, 'open_faces', lambda *_: FewFaces())
    row = {'recogniser': 'judge', 'accuracy': 0.9, 'eer': 0.1}
    rows = [
        row | {'method': 'sicnn', 'published': 0.9825},
        row | {'method': 'sr_only', 'published': None},
    ]
    found = {'rows': rows, 'pairs_file': '/a/pairs.txt', 'pairs_reported': 6000}
    (workdir / 'verification.json').write_text(json.dumps(found))
    page = write(workdir)
    assert '<h2>Verification: pairs.txt</h2>' in page
    cells = '<td class="n">90.00%</td><td class="n">10.00%</td><td class="n">{}</td>'
    assert f'<code>SICNN</code></td>{cells.format("98.25%")}' in page
    assert f'<code>L_SR only</code></td>{cells.format("")}' in page


def test_what_is_not_there_is_left_out_with_the_reason(workdir):
    config = json.loads((workdir / 'config.json').read_text())
    config['data'] |= {'source': 'records', 'dir': '/none'}
    (workdir / 'config.json').write_text(json.dumps(config))
    page = write(workdir)
    assert page.count('Left out: the faces of the run are not in /none') == 2
    assert 'Left out: there is no results.json; python -m sicnn_jax.evaluate' in page


def test_a_workdir_that_is_none(tmp_path, capsys):
    assert report.main([f'--workdir={tmp_path}']) == 1
    assert 'config.json is missing' in capsys.readouterr().err


def test_a_curve_is_highest_where_its_value_is():
    chart = html_page.line_chart(
        'loss', [(1, 100.0), (2, 10.0), (3, 1.0)], logarithmic=True
    )
    (line,) = re.findall(r'points="(.*?)"', chart)
    heights = [float(point.split(',')[1]) for point in line.split()]
    assert heights[0] < heights[1] < heights[2]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)
    assert 'points' in html_page.line_chart('one', [(1, 0.0)])
