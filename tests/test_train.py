"""The whole loop on tiny shapes: stages, resume, bad numbers, bad configs."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from configs import di, real
from sicnn_jax import checkpoint, evaluate, hooks, inference, lock, terms, train
from sicnn_jax.data import records, targets
from sicnn_jax.data.dataset import ProceduralFaces
from sicnn_jax.data.records import DatasetError
from sicnn_jax.evaluation import compare, held_out, verify
from sicnn_jax.evaluation.judge import load_judge, pack_judge
from sicnn_jax.inference.exporting import export
from sicnn_jax.reports.run_page import write_report
from tests import tiny_training
from tests.evaluation.test_verify import write_onnx
from tests.writing import write_set

STAGES = ('recognition', 'hallucination', 'sr_only', 'domain_integrated')


def tiny_config(source='embedded'):
    """configs/di.py:demo, shrunk until a stage takes seconds."""
    config = di.get_config('demo')
    config.update_from_flattened_dict(tiny_training.fields(4, STAGES))
    config.data.source = source
    for name in STAGES:
        config[name].evaluate_every = 4
    return config


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A run of all stages, on eight devices."""
    workdir = tmp_path_factory.mktemp('run')
    config = tiny_config()
    train.run(config, workdir)
    return config, workdir


def _final(workdir, stage):
    params, record = checkpoint.load_networks(workdir / stage)
    return params, record


def _metrics(workdir, stage):
    lines = (workdir / stage / 'metrics.jsonl').read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k != 'images_per_second'}
        for line in lines
    ]


def _assert_equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_every_stage_leaves_its_networks_metrics_and_pictures(finished):
    _, workdir = finished
    for stage in STAGES:
        params, record = _final(workdir, stage)
        assert record['convention']['colour_order'] == 'RGB'
        lines = (workdir / stage / 'metrics.jsonl').read_text().splitlines()
        assert [json.loads(line)['step'] for line in lines] == [2, 4]
        assert 'images_per_second' in json.loads(lines[0])
        assert list((workdir / stage / 'tensorboard').iterdir())
        if 'cnnh' in params:
            assert (workdir / stage / 'samples' / '0000004.png').is_file()
    lines = (workdir / 'domain_integrated' / 'metrics.jsonl').read_text().splitlines()
    last = json.loads(lines[-1])
    for field in (
        'annealing',
        'feature_norm',
        'target_cosine',
        'recognition_accuracy',
        'super_resolution_loss',
        'super_identity_loss',
        'psnr',
        'identity_similarity',
    ):
        assert np.isfinite(last[field]), field


def test_each_stage_begins_with_the_networks_of_the_one_before(finished):
    config, workdir = finished
    stage = train.build_stage(config, 'domain_integrated', workdir)
    faces = train.dataset.open_faces(config.data, workdir)
    state = train.initial_state(config, stage, faces)
    _assert_equal(state.params['cnnr'], _final(workdir, 'recognition')[0]['cnnr'])
    _assert_equal(state.params['cnnh'], _final(workdir, 'hallucination')[0]['cnnh'])


def test_a_finished_run_trains_nothing_again(finished, capsys):
    config, workdir = finished
    before = _final(workdir, 'domain_integrated')[0]
    train.run(config, workdir)
    assert capsys.readouterr().out.count('finished already') == len(STAGES)
    _assert_equal(before, _final(workdir, 'domain_integrated')[0])


def _copied(finished, tmp_path):
    """A config and a workdir that a test may change."""
    config, workdir = finished
    config = config.copy_and_resolve_references()
    return config, shutil.copytree(workdir, tmp_path / 'copied')


def test_a_finished_run_of_something_else_is_refused(finished, tmp_path):
    config, workdir = _copied(finished, tmp_path)
    before = (workdir / 'config.json').read_text()
    for change, message in (
        (
            {'domain_integrated.alpha': 3.0},
            r'integrated\.alpha = .*3\.0',
        ),
        ({'cnnh.width': 8}, r'models\.cnnh\.width = 3; expected 8'),
        ({'recognition.steps': 8}, r'config\.recognition\.steps = 4; expected 8'),
        # Of a stage that this command leaves alone, too.
        ({'seed': 3, 'stages': ('recognition',)}, r'config\.seed = 0; expected 3'),
    ):
        other = config.copy_and_resolve_references()
        other.update_from_flattened_dict(change)
        with pytest.raises(checkpoint.CheckpointError, match=message):
            train.run(other, workdir)
        assert (workdir / 'config.json').read_text() == before
    with lock.hold(workdir), pytest.raises(lock.InUseError, match='in use by'):
        train.run(config, workdir)


def test_what_does_not_matter_goes_on_and_no_stage_is_forgotten(finished, tmp_path):
    config, workdir = _copied(finished, tmp_path)
    config.log_every, config.evaluation.final_pairs = 1, 30
    config.stages = ('hallucination',)
    with config.unlocked():
        del config.sr_only
    train.run(config, workdir)
    found = json.loads((workdir / 'config.json').read_text())
    assert found['stages'] == [*STAGES] and found['sr_only']['steps'] == 4
    assert found['evaluation']['final_pairs'] == 30


def test_a_stage_whose_start_was_trained_anew_is_refused(finished, tmp_path):
    config, workdir = _copied(finished, tmp_path)
    params, record = _final(workdir, 'hallucination')
    params = jax.tree.map(lambda leaf: leaf + 1, params)
    # With a record of one's own, too.
    record = {field: record[field] for field in ('convention', 'models')}
    checkpoint.save_networks(tmp_path / 'other', params, record)
    config.hallucination.checkpoint = str(tmp_path / 'other')
    with pytest.raises(checkpoint.CheckpointError, match=r'init\.cnnh\.sha256'):
        train.run(config, workdir)
    # What is there no longer cannot be compared.
    shutil.rmtree(tmp_path / 'other')
    train.run(config, workdir)


def test_data_without_held_out_people_are_trained_on(finished, tmp_path):
    _, workdir = finished
    config = tiny_config('records')
    config.stages = ('recognition', 'hallucination')
    hr, labels = train.dataset.read_split(workdir / 'data', 'train')
    train_only = [
        records.Face(face, f'p{label}', f'p{label}/{index}.png', source='test')
        for index, (face, label) in enumerate(zip(hr, labels, strict=True))
    ]
    config.data.dir = str(tmp_path / 'everybody')
    write_set(config.data.dir, {'train': train_only}, alignment={'kind': 'none'})
    train.run(config, tmp_path / 'run')
    for stage in config.stages:
        lines = _metrics(tmp_path / 'run', stage)
        assert [line['step'] for line in lines] == [2, 4]
        assert not {'psnr', 'verification_accuracy'} & lines[-1].keys()
    with pytest.raises(held_out.NobodyHeldOutError, match='no held-out people'):
        compare.run(config, tmp_path / 'run')
    write_report(tmp_path / 'run', tmp_path / 'report.html')
    assert 'no held-out people' in (tmp_path / 'report.html').read_text()


def test_a_stage_begins_with_a_packed_network(finished, tmp_path):
    config, workdir = finished
    file = tmp_path / 'cnnh.safetensors'
    export(workdir / 'hallucination', 'safetensors', file)
    config = config.copy_and_resolve_references()
    config.sr_only.init.cnnh = str(file)
    config.recognition.checkpoint = str(workdir / 'recognition')
    stage = train.build_stage(config, 'sr_only', tmp_path)
    faces = train.dataset.open_faces(config.data, workdir)
    state = train.initial_state(config, stage, faces)
    _assert_equal(state.params['cnnh'], _final(workdir, 'hallucination')[0]['cnnh'])


def test_an_interrupted_run_continues_bit_for_bit(finished, tmp_path, monkeypatch):
    """Killed after the checkpoint of step 2 of the third kind of stage."""
    config, workdir = finished
    resumed = tmp_path / 'resumed'
    shutil.copytree(workdir, resumed)
    shutil.rmtree(resumed / 'domain_integrated')

    class Killed(Exception):
        pass

    save = checkpoint.Checkpoints.save

    def save_then_die(self, step, *arguments):
        save(self, step, *arguments)
        if step == 2:
            self.close()
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoints, 'save', save_then_die)
        with pytest.raises(Killed):
            train.run(config, resumed)
    assert not checkpoint.has_networks(resumed / 'domain_integrated')
    train.run(config, resumed)
    _assert_equal(
        _final(workdir, 'domain_integrated')[0],
        _final(resumed, 'domain_integrated')[0],
    )
    assert _metrics(workdir, 'domain_integrated') == _metrics(
        resumed, 'domain_integrated'
    )


def test_a_run_that_is_asked_to_stop_saves_and_continues(finished, tmp_path):
    """After step 3 of 4, where no checkpoint is due."""
    config, workdir = finished
    stopped = tmp_path / 'stopped'
    shutil.copytree(workdir, stopped)
    shutil.rmtree(stopped / 'sr_only')
    answers = iter([False, False, True])
    with pytest.raises(hooks.Stopped, match='Stopped at step 3'):
        train.run(config, stopped, asked_to_stop=lambda: next(answers))
    assert sorted(path.name for path in (stopped / 'sr_only' / 'last').iterdir()) == [
        '2',
        '3',
    ]
    train.run(config, stopped)
    _assert_equal(_final(workdir, 'sr_only')[0], _final(stopped, 'sr_only')[0])
    assert _metrics(workdir, 'sr_only') == _metrics(stopped, 'sr_only')
    assert not (stopped / 'sr_only' / 'window.json').exists()


def test_a_checkpoint_of_eight_devices_continues_on_one(
    finished, tmp_path, monkeypatch
):
    config, workdir = finished
    moved = tmp_path / 'moved'
    shutil.copytree(workdir, moved)
    shutil.rmtree(moved / 'sr_only' / 'final')
    shutil.rmtree(moved / 'sr_only' / 'last' / '4')
    devices = jax.devices()[:1]
    monkeypatch.setattr(train.parallel, 'local_devices', lambda: devices)
    train.run(config, moved)
    one, eight = (_final(run, 'sr_only')[0]['cnnh'] for run in (moved, workdir))
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)


def test_split_identities_are_saved_whole_and_continue_on_one_device(
    finished, tmp_path, monkeypatch
):
    """Four identities over eight devices: half of them hold none."""
    _, workdir = finished
    config = tiny_config()
    config.stages = ('recognition',)
    config.data.dir = str(workdir / 'data')
    config.recognition_loss.split_identities = True
    split = tmp_path / 'split'
    train.run(config, split)
    params, whole = (_final(run, 'recognition')[0] for run in (split, workdir))
    assert params['class_weights'].shape == (8, 4)
    for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)

    shutil.rmtree(split / 'recognition' / 'final')
    shutil.rmtree(split / 'recognition' / 'last' / '4')
    config.recognition_loss.split_identities = False
    devices = jax.devices()[:1]
    monkeypatch.setattr(train.parallel, 'local_devices', lambda: devices)
    train.run(config, split)
    continued, _ = _final(split, 'recognition')
    for x, y in zip(jax.tree.leaves(continued), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-4)


def test_a_given_stage_is_not_trained(finished, tmp_path, capsys):
    _, workdir = finished
    config = tiny_config()
    config.stages = ('recognition', 'hallucination', 'sr_only')
    config.data.dir = str(workdir / 'data')
    for name in ('recognition', 'hallucination'):
        config[name].checkpoint = str(workdir / name)
    train.run(config, tmp_path)
    assert capsys.readouterr().out.count('given') == 2
    assert not (tmp_path / 'recognition').exists()
    _assert_equal(_final(tmp_path, 'sr_only')[0], _final(workdir, 'sr_only')[0])


@pytest.mark.parametrize('scale', [8, 4])
def test_light_networks_train_on_shards_without_a_recognition_network(
    finished, tmp_path, scale, capsys
):
    _, workdir = finished
    config = real.get_config()
    tiny = tiny_training.fields(4, config.stages)
    config.update_from_flattened_dict(
        {field: tiny[field] for field in tiny if not field.startswith('data.')}
    )
    config.scale = scale
    config.data.dir = str(workdir / 'data')
    config.cnnh.width = (4, 4, 3, 2)
    train.run(config, tmp_path)
    results = compare.run(config, tmp_path)
    rows = {row['method']: row for row in results['rows']}
    assert list(rows) == ['hr', 'bicubic', 'sr_only']
    assert np.isfinite(rows['sr_only']['psnr'])
    assert rows['sr_only']['identity_similarity'] is None
    assert json.loads((tmp_path / 'results.json').read_text())['rows']
    record = _final(tmp_path, 'sr_only')[1]
    assert record['scale'] == scale
    assert record['models']['cnnh']['width'] == [4, 4, 3, 2]
    with pytest.raises(ValueError, match='name one that verifies, such as --judge'):
        verify.run(config, tmp_path, pairs='pairs.txt')


def _real_config(variant, workdir):
    """configs/real.py, shrunk, on the faces of the finished run."""
    config = real.get_config(variant)
    tiny = tiny_training.fields(4, config.stages)
    own = 'data.' if config.cnnr.kind == 'cnnr' else ('data.', 'cnnr.')
    config.update_from_flattened_dict(
        {field: tiny[field] for field in tiny if not field.startswith(own)}
    )
    config.data.dir = str(workdir / 'data')
    for name in ('hallucination', 'sr_only'):
        config[name].checkpoint = str(workdir / name)
    return config


def test_cnnr_learns_from_a_teacher_and_goes_on_in_algorithm_1(finished, tmp_path):
    _, workdir = finished
    config = _real_config('distilled', workdir)
    keys = records.read_keys(config.data.dir, 'train')
    features = np.random.default_rng(0).normal(size=(len(keys), 5)).astype(np.float32)
    config.data.targets = str(tmp_path / 'targets')
    targets.write_targets(tmp_path / 'targets', 'a teacher', keys, features)
    with pytest.raises(ValueError, match=r'have 8 numbers, the teacher.s have 5.*head'):
        train.run(config, tmp_path / 'run')
    optimizer = config.recognition.optimizer.cnnr
    config.recognition.update_rule = 'distillation_by_head'
    config.recognition.init.head = ''
    config.recognition.optimizer.head = optimizer.copy_and_resolve_references()
    config.cnnr.feature_dim = 5
    config.stages = ('recognition',)
    train.run(config, tmp_path / 'run')
    final, record = _final(tmp_path / 'run', 'recognition')
    assert record['data']['teacher'] == 'a teacher'
    assert final['head']['kernel'].shape == (5, 5)
    assert 'distillation_loss' in _metrics(tmp_path / 'run', 'recognition')[-1]
    config.recognition.init.head = str(tmp_path / 'run' / 'recognition')
    stage = train.build_stage(config, 'recognition', tmp_path / 'run')
    faces = train.dataset.open_faces(config.data, tmp_path / 'run')
    state = train.initial_state(config, stage, faces)
    _assert_equal(state.params['head'], final['head'])
    stage = train.build_stage(config, 'domain_integrated', tmp_path / 'run')
    state = train.initial_state(config, stage, faces)
    hr, labels = (
        np.concatenate(each) for each in zip(*faces.train_faces(), strict=True)
    )
    found = inference.extract_features(stage.recipe.cnnr, final['cnnr'], hr)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    mean = found[labels == 2].mean(0)
    np.testing.assert_allclose(
        state.params['class_weights'][:, 2], mean / np.linalg.norm(mean), atol=1e-5
    )


def test_a_network_from_outside_takes_the_place_of_cnnr(finished, tmp_path):
    pytest.importorskip('onnx')
    from tests.models.test_onnx_recogniser import small_network

    _, workdir = finished
    config = _real_config('onnx', workdir)
    config.recognition.steps = 1
    config.cnnr.file = str(small_network(tmp_path / 'network.onnx'))
    train.run(config, tmp_path / 'run')
    results = compare.run(config, tmp_path / 'run')
    rows = {row['method']: row for row in results['rows']}
    assert list(rows) == ['hr', 'bicubic', 'sr_only', 'approach_ii']
    assert rows['approach_ii']['identity_similarity'] < 1
    second, record = _final(tmp_path / 'run', 'approach_ii')
    # What is only read is not stored again.
    assert [*second] == ['cnnh'] and [*record['frozen']] == ['cnnr']
    assert record['models']['cnnr']['sha256']
    # The same command on the finished run, and one on another file.
    train.run(config, tmp_path / 'run')
    small_network(tmp_path / 'network.onnx')
    with pytest.raises(ValueError, match='sha256'):
        shutil.rmtree(tmp_path / 'run' / 'approach_ii')
        train.run(config, tmp_path / 'run')


def test_procedural_faces_train_without_shards(tmp_path):
    config = tiny_config('procedural')
    config.stages = ('recognition',)
    train.run(config, tmp_path)
    assert not (tmp_path / 'data').exists()
    assert _final(tmp_path, 'recognition')[1]['data']['num_identities'] == 4


def test_two_steps_a_dispatch_are_the_same_steps(finished, tmp_path):
    """From faces held on the device; Algorithm 1 in one program or two."""
    _, workdir = finished
    config = tiny_config()
    config.stages = ('domain_integrated',)
    config.data.placement = 'device'
    config.data.dir = str(workdir / 'data')
    config.data.shift = 2
    for name in ('recognition', 'hallucination'):
        config[name].checkpoint = str(workdir / name)
    ends, lines = [], []
    for name, together, fused in (
        ('one', 1, True),
        ('two', 2, True),
        ('half', 1, False),
    ):
        config.steps_per_dispatch = together
        config.domain_integrated.fused = fused
        train.run(config, tmp_path / name)
        ends.append(_final(tmp_path / name, 'domain_integrated')[0])
        text = (tmp_path / name / 'domain_integrated' / 'metrics.jsonl').read_text()
        lines.append([json.loads(line) for line in text.splitlines()])
    for other in ends[1:]:
        for x, y in zip(jax.tree.leaves(ends[0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-3)
    for other in lines[1:]:
        for first, second in zip(lines[0], other, strict=True):
            assert set(first) == set(second)
            loss = 'super_resolution_loss'
            assert first[loss] == pytest.approx(second[loss], rel=1e-3)


def test_procedural_batches_are_a_function_of_seed_and_step():
    faces = ProceduralFaces(0, 50, 9, 2, 2)
    whole = faces.train_batches(batch_size=8, seed=3)
    first, second = next(whole), next(whole)
    resumed = next(faces.train_batches(batch_size=8, seed=3, start_step=1))
    np.testing.assert_equal(resumed, second)
    assert faces.batch_keys(batch_size=8, seed=3, step=1) == [
        f'{label:06d}/{image:04d}'
        for label, image in zip(second['label'], second['image'], strict=True)
    ]
    assert not np.array_equal(first['label'], second['label'])
    halves = [
        next(
            faces.train_batches(
                batch_size=8, seed=3, process_index=index, process_count=2
            )
        )
        for index in range(2)
    ]
    joined = {name: np.concatenate([h[name] for h in halves]) for name in first}
    np.testing.assert_equal(joined, first)


def test_a_step_that_is_not_finite_stops_the_run(finished, tmp_path, monkeypatch):
    config, workdir = finished
    broken = tmp_path / 'broken'
    shutil.copytree(workdir, broken)
    shutil.rmtree(broken / 'sr_only')
    monkeypatch.setattr(
        terms.losses, 'super_resolution_loss', lambda sr, hr: sr.sum() / 0
    )
    with pytest.raises(hooks.NonFiniteError, match=r'sr_only\] step 1 was not finite'):
        train.run(config, broken)
    event = json.loads((broken / 'sr_only' / 'events.jsonl').read_text())
    assert len(event['keys']) == 8
    assert set(event['keys']) <= set(records.read_keys(workdir / 'data', 'train'))
    assert not checkpoint.has_networks(broken / 'sr_only')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'degradation': 'area'}, 'degradation'),
        ({'scale': 4}, 'scale'),
        ({'cnnh.growth': 3}, 'cnnh'),
    ],
)
def test_networks_of_other_conventions_are_refused(finished, tmp_path, change, message):
    _, workdir = finished
    config = tiny_config()
    config.update_from_flattened_dict(change)
    config.stages = ('sr_only',)
    config.data.dir = str(workdir / 'data')
    config.hallucination.checkpoint = str(workdir / 'hallucination')
    with pytest.raises(checkpoint.CheckpointError, match=message):
        train.run(config, tmp_path)


def test_other_embedded_faces_are_refused(finished):
    config, workdir = finished
    config = config.copy_and_resolve_references()
    config.data.identities = 5
    with pytest.raises(DatasetError, match='delete that one'):
        train.run(config, workdir)


def test_data_that_changed_since_the_checkpoint_is_noticed(finished, tmp_path):
    """Another person has the place of the first."""
    _, workdir = finished
    moved = tmp_path / 'run'
    shutil.copytree(workdir, moved)
    shutil.rmtree(moved / 'sr_only' / 'final')
    sidecar = json.loads((moved / 'data' / 'faces.json').read_text())
    sidecar['splits']['train']['identities'][0] = 'somebody else'
    (moved / 'data' / 'faces.json').write_text(json.dumps(sidecar))
    with pytest.raises(checkpoint.CheckpointError, match=r'with data\.fingerprint = '):
        train.run(tiny_config(), moved)


def test_a_run_skips_what_is_damaged(finished, tmp_path):
    _, workdir = finished
    data = shutil.copytree(workdir / 'data', tmp_path / 'data')
    shard = next(data.glob('faces-train*'))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    config = tiny_config('records').data
    config.update({'dir': str(data), 'on_error': 'skip', 'max_error_share': 0.1})
    faces = train.dataset.open_faces(config, tmp_path)
    assert faces.directory == tmp_path / 'salvaged'
    assert len(records.read_keys(faces.directory, 'train')) == 15


def test_a_missing_stage_says_so(tmp_path):
    config = tiny_config('procedural')
    config.stages = ('sr_only',)
    with pytest.raises(checkpoint.CheckpointError, match='Train that stage first'):
        train.run(config, tmp_path)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'stages': ('recognition', 'polishing')}, 'polishing'),
        ({'recognition.update_rule': 'gan'}, 'expected one of'),
        ({'recognition.checkpoint_every': 3}, 'multiple of config.log_every'),
        ({'data.source': 'web'}, 'embedded, records, procedural'),
        ({'data.source': 'records'}, 'config.data.dir'),
        ({'domain_integrated.batch_size': 9}, 'multiple of the 8 devices'),
        ({'recognition.microbatches': 3}, '8 devices, 3 microbatches on each'),
        ({'recognition_loss.name': 'triplet'}, 'arcface'),
        ({'sr_only.alpha': 8.0}, 'cnnr'),
        ({'steps_per_dispatch': 0}, 'at least 1'),
        ({'steps_per_dispatch': 3}, 'multiple of config.steps_per_dispatch, 3'),
        (
            {'steps_per_dispatch': 2, 'domain_integrated.fused': False},
            'config.domain_integrated.fused to True',
        ),
        ({'data.identities': 2**31}, '2,147,483,647 in all'),
        ({'recognition_loss.sampled_identities': 9}, 'sampled identities is 9'),
    ],
)
def test_a_config_that_does_not_fit_is_an_error(change, message, tmp_path):
    config = tiny_config()
    config.update_from_flattened_dict(change)
    with pytest.raises(ValueError, match=message):
        train.run(config, tmp_path)


def test_evaluation_writes_the_table_and_the_picture(finished, capsys):
    config, workdir = finished
    results = compare.run(config, workdir, judge=str(workdir / 'recognition'))
    assert [row['method'] for row in results['rows']] == [
        'hr',
        'bicubic',
        'sr_only',
        'sicnn',
    ]
    assert json.loads((workdir / 'results.json').read_text()) == results
    assert (workdir / 'samples.png').is_file()
    assert results['faces'] == 12
    assert results['identities'] == 3
    # A network trained for four steps verifies nothing.
    assert 'reason' in results['judge']
    assert all(row['judge_similarity'] is None for row in results['rows'])
    bicubic = results['rows'][1]
    assert 5 < bicubic['psnr'] < 40
    assert -1 <= bicubic['identity_similarity'] <= 1
    assert 'SICNN' not in capsys.readouterr().err


def test_a_good_judge_fills_its_columns(finished, monkeypatch):
    config, workdir = finished
    monkeypatch.setattr(compare, 'LEAST_ACCURACY', 0.0)
    results = compare.run(config, workdir, judge=str(workdir / 'recognition'))
    hr, bicubic = results['rows'][:2]
    assert 'reason' not in results['judge']
    assert hr['verification_accuracy'] == results['judge']['hr_accuracy']
    # The judge is the evaluating CNNR here, so both columns agree.
    assert bicubic['judge_similarity'] == pytest.approx(
        bicubic['identity_similarity'], abs=1e-5
    )


def test_a_network_from_outside_judges(finished, tmp_path, monkeypatch, capsys):
    config, workdir = finished
    network = write_onnx(tmp_path / 'model.onnx', channel=0)
    monkeypatch.setattr(compare, 'LEAST_ACCURACY', 0.0)
    results = compare.run(config, workdir, judge=str(network))
    assert results['judge']['name'] == str(network)
    assert all(-1 <= row['judge_similarity'] <= 1 for row in results['rows'][1:])
    originals, table = capsys.readouterr().out.split('never seen')
    assert f'{network} verifies' in originals and 'sicnn' in table


def test_only_reported_folds_are_reported(finished, tmp_path, monkeypatch):
    config, workdir = finished
    monkeypatch.setattr(compare, 'LEAST_ACCURACY', 0.0)
    rng = np.random.default_rng(0)
    ann, *_ = people = [
        records.Face(
            rng.integers(0, 256, (112, 96, 3), np.uint8),
            name,
            f'{name}/{name}_{index:04d}.jpg',
            source='test',
        )
        for name in ('Ann', 'Bob', 'Cid', 'Dot')
        for index in (1, 2)
    ]
    write_set(
        tmp_path / 'data',
        {
            'train': [dataclasses.replace(ann, name='Eve', key='Eve/Eve_0001.jpg')],
            'test': people,
        },
        alignment={'kind': 'none'},
    )
    pairs = tmp_path / 'pairs.txt'
    pairs.write_text('2\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\nCid\t1\t2\nCid\t1\tDot\t1\n')

    def evaluated(report):
        return compare.run(
            config,
            workdir,
            judge=str(workdir / 'recognition'),
            data=str(tmp_path / 'data'),
            pairs=str(pairs),
            report=report,
        )

    first, second, both = evaluated((1,)), evaluated((2,)), evaluated(())
    assert [r['faces'] for r in (first, second, both)] == [3, 3, 6]
    assert [r['pairs'] for r in (first, second, both)] == [2, 2, 4]
    for field in ('psnr', 'identity_similarity', 'judge_similarity'):
        one, other, mean = (r['rows'][1][field] for r in (first, second, both))
        assert one != other
        assert mean == pytest.approx((one + other) / 2, rel=1e-5)
    with pytest.raises(ValueError, match='names fold 3'):
        evaluated((3,))
    # A run may also say itself what it is measured on at its end.
    config = config.copy_and_resolve_references()
    config.data.dir = str(tmp_path / 'data')
    config.evaluation.update(
        judge=str(workdir / 'recognition'), pairs_file=str(pairs), reported_folds=(2,)
    )
    assert compare.run(config, workdir)['rows'] == second['rows']


def test_pairs_of_photographs_are_verified_by_the_command(finished, tmp_path, capsys):
    _, workdir = finished
    table = workdir / 'results.json'
    table.write_text('{}')
    rng = np.random.default_rng(0)
    for name in ('Ann', 'Bob', 'Cid', 'Dot'):
        (tmp_path / name).mkdir()
        for index in (1, 2):
            face = rng.integers(0, 256, (112, 96, 3), np.uint8)
            Image.fromarray(face).save(tmp_path / f'{name}/{name}_{index:04d}.jpg')
    pairs = tmp_path / 'pairs.txt'
    pairs.write_text('2\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\nCid\t1\t2\nCid\t1\tDot\t1\n')

    def command(*flags):
        return evaluate.main([f'--workdir={workdir}', *flags])

    command(f'--pairs={pairs}', f'--images={tmp_path}', '--flip=mean')
    results = json.loads((workdir / 'verification.json').read_text())
    methods = ['hr', 'bicubic', 'sr_only', 'sicnn']
    # The packaged judge knows procedural faces, not photographs.
    assert [row['method'] for row in results['rows']] == methods
    assert [row['published'] for row in results['rows']] == [
        0.9948,
        0.9751,
        0.9761,
        0.9825,
    ]
    assert results['pairs_used'] == 4 and results['flip'] == 'mean'
    assert 'CNNR of stage 1 verifies' in capsys.readouterr().out
    command(
        f'--pairs={pairs}', f'--images={tmp_path}', f'--judge={workdir / "recognition"}'
    )
    results = json.loads((workdir / 'verification.json').read_text())
    assert [row['method'] for row in results['rows']] == 2 * methods
    # It is the same network.
    for ours, judged in zip(results['rows'][:4], results['rows'][4:], strict=True):
        assert {**ours, 'recogniser': judged['recogniser']} == judged
    # What compares the methods by quality is left alone.
    assert table.read_text() == '{}'
    with pytest.raises(SystemExit):
        command(f'--images={tmp_path}')
    assert 'needs --pairs' in capsys.readouterr().err
    assert command(f'--pairs={tmp_path / "no.txt"}', f'--images={tmp_path}') == 1
    assert 'cannot be read' in capsys.readouterr().err


def test_shards_are_verified_too(finished):
    _, workdir = finished
    keys = records.read_keys(workdir / 'data', 'test')
    pairs = workdir / 'pairs.csv'
    lines = [
        f'{keys[4 * a + i]},{keys[4 * b + j]},{int(a == b)},{i + 1}'
        for a, b in ((0, 0), (1, 1), (0, 1), (1, 2))
        for i, j in ((0, 1), (1, 2))
    ]
    pairs.write_text('\n'.join(['path_a,path_b,same,fold', *lines]))
    assert evaluate.main([f'--workdir={workdir}', f'--pairs={pairs}']) == 0
    table = json.loads((workdir / 'results.json').read_text())
    results = json.loads((workdir / 'verification.json').read_text())
    assert table['pairs'] == results['pairs_used'] == 8
    assert results['set'] == 'csv' and results['rows'][0]['published'] is None
    packaged = [row for row in results['rows'] if row['recogniser'] == 'packaged']
    # By the same features and protocol.
    assert packaged[0]['accuracy'] == table['judge']['hr_accuracy']


def test_a_judge_survives_packing(finished, tmp_path):
    _, workdir = finished
    path = tmp_path / 'judge.safetensors'
    pack_judge(workdir / 'recognition', path)
    faces = np.random.default_rng(0).integers(0, 256, (3, 112, 96, 3), np.uint8)
    for packed, stage in zip(
        load_judge(path).describe(faces),
        load_judge(workdir / 'recognition').describe(faces),
        strict=True,
    ):
        np.testing.assert_allclose(packed, stage, atol=0.02 * np.abs(stage).max())
    with pytest.raises(checkpoint.CheckpointError, match=r'missing\.safetensors'):
        load_judge(tmp_path / 'missing.safetensors')
