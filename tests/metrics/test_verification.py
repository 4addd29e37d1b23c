"""Verification protocols against brute force, and the drawing of pairs."""

import collections
import itertools

import numpy as np
import pytest

from sicnn_jax.metrics import (
    best_threshold,
    draw_pairs,
    k_fold_accuracy,
    pair_scores,
    verify,
    verify_sets,
)


def _accuracy(scores, same, threshold):
    decisions = [score > threshold for score in scores]
    return np.mean([d == s for d, s in zip(decisions, same, strict=True)])


def _pairs(seed=0, n=120, feature_dim=6, offset=0.0):
    rng = np.random.default_rng(seed)
    same = rng.random(n) < 0.5
    features_a = rng.normal(size=(n, feature_dim))
    features_b = rng.normal(size=(n, feature_dim)) + 1.2 * same[:, None] * features_a
    return features_a + offset, features_b + offset, same


def test_pair_scores():
    features_a, features_b, _ = _pairs()
    features_a[3] = 0
    scores = pair_scores(features_a.astype(np.float32), features_b)
    assert scores.dtype == np.float64 and scores[3] == 0
    a, b = features_a[5].astype(np.float32).astype(np.float64), features_b[5]
    expected = a @ b / np.sqrt((a @ a) * (b @ b))
    np.testing.assert_allclose(scores[5], expected, rtol=1e-12)


@pytest.mark.parametrize('decimals', [1, 6])
def test_best_threshold_beats_every_other(decimals):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scores = np.round(rng.normal(size=30), decimals)
        same = rng.random(30) < 0.5
        found = _accuracy(scores, same, best_threshold(scores, same))
        grid = np.linspace(-5, 5, 2001) + 1e-7
        assert found == max(_accuracy(scores, same, t) for t in grid)


def test_best_threshold_lies_in_the_middle_of_a_gap():
    assert best_threshold([0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1]) == pytest.approx(0.4)
    # Above 0, 1, 2 or 3 of these: 1, 2, 1 or 2 are decided rightly.
    assert best_threshold([0.1, 0.2, 0.3], [0, 1, 0]) == pytest.approx(1.3)


def test_best_threshold_of_one_kind_of_pairs():
    assert best_threshold([0.1, 0.5], [True, True]) < 0.1
    assert best_threshold([0.1, 0.5], [False, False]) > 0.5
    assert np.isfinite(best_threshold([0.3, 0.3, 0.3], [True, False, True]))


def test_k_fold_accuracy_chooses_each_threshold_on_the_other_folds():
    features_a, features_b, same = _pairs()
    scores = pair_scores(features_a, features_b)
    fold_ids = np.arange(120) // 24 + 7
    accuracies = []
    for fold in range(7, 12):
        train = [i for i in range(120) if fold_ids[i] != fold]
        test = [i for i in range(120) if fold_ids[i] == fold]
        threshold = best_threshold(scores[train], same[train])
        accuracies.append(_accuracy(scores[test], same[test], threshold))
    mean, std = k_fold_accuracy(scores, same, fold_ids)
    assert mean == pytest.approx(np.mean(accuracies), abs=1e-12)
    assert std == pytest.approx(np.std(accuracies), abs=1e-12)
    assert 0.7 < mean < 1


def test_the_held_fold_does_not_choose_its_threshold():
    # Fold 1 alone would be decided rightly at 10.
    scores = np.array([0.0, 1.0, 0.1, 0.9, 9.0, 11.0])
    same = np.array([False, True] * 3)
    mean, _ = k_fold_accuracy(scores, same, [0, 0, 0, 0, 1, 1])
    assert mean < 1


def test_a_number_of_folds_deals_both_kinds_in_turn():
    features_a, features_b, same = _pairs()
    scores = pair_scores(features_a, features_b)
    turns, fold_ids = {True: 0, False: 0}, []
    for kind in same.tolist():
        fold_ids.append(turns[kind] % 5)
        turns[kind] += 1
    expected = k_fold_accuracy(scores, same, fold_ids)
    assert k_fold_accuracy(scores, same, 5) == expected
    assert verify(features_a, features_b, same, 5).accuracy == pytest.approx(
        verify(features_a, features_b, same, fold_ids).accuracy
    )


def test_verify_is_sphereface_protocol():
    features_a, features_b, same = _pairs(offset=3.0)
    fold_ids = np.arange(120) % 10
    accuracies, thresholds = [], []
    for fold in range(10):
        others = fold_ids != fold
        mean = np.concatenate([features_a[others], features_b[others]]).mean(axis=0)
        scores = np.array(
            [
                (a - mean)
                @ (b - mean)
                / np.linalg.norm(a - mean)
                / np.linalg.norm(b - mean)
                for a, b in zip(features_a, features_b, strict=True)
            ]
        )
        thresholds.append(best_threshold(scores[others], same[others]))
        accuracies.append(_accuracy(scores[~others], same[~others], thresholds[-1]))
    result = verify(features_a, features_b, same, fold_ids)
    np.testing.assert_allclose(result.fold_accuracies, accuracies, atol=1e-12)
    np.testing.assert_allclose(result.thresholds, thresholds, rtol=1e-9)
    assert result.accuracy == pytest.approx(np.mean(accuracies))
    assert result.std == pytest.approx(np.std(accuracies))


def test_scores_are_those_that_the_folds_were_decided_by():
    features_a, features_b, same = _pairs(offset=3.0)
    fold_ids = np.arange(120) % 10
    result = verify(features_a, features_b, same, fold_ids)
    for fold, accuracy in enumerate(result.fold_accuracies):
        held = fold_ids == fold
        found = _accuracy(result.scores[held], same[held], result.thresholds[fold])
        assert found == accuracy


def test_sets_are_scored_by_the_mean_over_their_pairs_of_faces():
    rng = np.random.default_rng(0)
    owners = rng.permutation(np.repeat(np.arange(24), 3))
    owners = np.concatenate([owners, [0, 0, 5]])
    features = rng.normal(size=(len(owners), 4)) + 2
    index_a, index_b = np.arange(24), np.roll(np.arange(24), 1)
    same, fold_ids = np.arange(24) % 2 == 0, np.arange(24) // 6
    result = verify_sets(features, owners, index_a, index_b, same, fold_ids)
    means = np.stack([features[owners == owner].mean(axis=0) for owner in range(24)])
    for pair in range(24):
        others = fold_ids != fold_ids[pair]
        mean = np.concatenate([means[index_a[others]], means[index_b[others]]]).mean(0)
        scores = [
            pair_scores(a[None] - mean, b[None] - mean)
            for a in features[owners == index_a[pair]]
            for b in features[owners == index_b[pair]]
        ]
        assert result.scores[pair] == pytest.approx(np.mean(scores), abs=1e-12)


def test_sets_of_one_face_are_faces():
    features_a, features_b, same = _pairs(offset=1.0)
    expected = verify(features_a, features_b, same, 10)
    index = np.arange(120)
    features = np.concatenate([features_a, features_b])
    found = verify_sets(features, np.arange(240), index, index + 120, same, 10)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-12)
    assert found.accuracy == expected.accuracy


def test_verify_does_not_mind_a_common_offset():
    features_a, features_b, same = _pairs()
    result = verify(features_a, features_b, same, 10)
    moved = verify(features_a + 100, features_b + 100, same, 10)
    assert moved.accuracy == pytest.approx(result.accuracy, abs=1e-12)
    # Which uncentred cosines do.
    plain = k_fold_accuracy(pair_scores(features_a + 100, features_b + 100), same)[0]
    assert plain < result.accuracy


def test_random_features_verify_at_chance():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 2000, 8))
    result = verify(*features, np.arange(2000) % 2 == 0, np.arange(2000) // 200)
    assert abs(result.accuracy - 0.5) < 0.05


def test_wrong_arguments_are_refused():
    features_a, features_b, same = _pairs()
    with pytest.raises(ValueError, match='shape'):
        verify(features_a, features_b[:5], same, 10)
    with pytest.raises(ValueError, match='120 pairs'):
        verify(features_a, features_b, same[:5], 10)
    with pytest.raises(ValueError, match='120 pairs'):
        verify(features_a, features_b, same, np.arange(5))
    with pytest.raises(ValueError, match='two folds'):
        verify(features_a, features_b, same, np.zeros(120))
    with pytest.raises(ValueError, match='not all finite'):
        verify(features_a * np.inf, features_b, same, 10)
    with pytest.raises(ValueError, match='such as -1; expected booleans'):
        verify(features_a, features_b, np.where(same, 1, -1), 10)
    with pytest.raises(ValueError, match='two folds'):
        k_fold_accuracy(np.arange(6), [0, 1] * 3, 1)
    with pytest.raises(ValueError, match='n ≥ 1'):
        best_threshold([], [])
    with pytest.raises(ValueError, match='not all finite'):
        best_threshold([0.1, np.nan], [0, 1])


def _degrees(identities, index_a, index_b):
    return collections.Counter(identities[np.concatenate([index_a, index_b])])


@pytest.mark.parametrize('num_identities', [6, 7])
def test_pairs_are_distinct_balanced_and_even(num_identities):
    labels = np.random.default_rng(0).permutation(np.repeat(range(num_identities), 8))
    index_a, index_b, same = draw_pairs(labels, at_most=150)
    assert index_a.shape == index_b.shape == same.shape == (150,)
    assert same.dtype == bool and same[:10].tolist() == [True, False] * 5
    np.testing.assert_array_equal(labels[index_a] == labels[index_b], same)
    pairs = {frozenset(p) for p in zip(index_a, index_b, strict=True)}
    assert len(pairs) == 150 and all(len(pair) == 2 for pair in pairs)
    for kind, spread in ((True, 2), (False, 1)):
        degrees = _degrees(labels, index_a[same == kind], index_b[same == kind])
        assert len(degrees) == num_identities
        assert max(degrees.values()) - min(degrees.values()) <= spread


def test_pairs_are_always_the_same():
    labels = np.array(['ann', 'bob', 'cem', 'dee'] * 5)
    first, again = (np.stack(draw_pairs(labels, at_most=20)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    # As they were drawn for what is published.
    assert first[:2, :4].tolist() == [[2, 2, 0, 0], [6, 3, 16, 13]]


def test_identities_with_few_faces_leave_their_turns_to_others():
    labels = np.array([0] * 6 + [1] * 2 + [2] + [3])
    # 15 + 1 pairs of the same identity are all there are.
    index_a, index_b, same = draw_pairs(labels, at_most=32)
    chosen = {tuple(sorted(p)) for p in zip(index_a[same], index_b[same], strict=True)}
    assert chosen == set(itertools.combinations(range(6), 2)) | {(6, 7)}


def test_all_pairs_of_different_identities_can_be_drawn():
    labels = np.repeat(range(3), 3)
    labels = np.concatenate([labels, [0] * 8])
    index_a, index_b, same = draw_pairs(labels, at_most=2 * 60)
    assert len(set(zip(index_a[~same], index_b[~same], strict=True))) == 60


def test_as_many_pairs_are_drawn_as_there_are():
    labels = np.repeat(range(3), 5)
    for at_most, expected in ((20, 20), (24, 24), (2_000, 60)):
        a, b, same = draw_pairs(labels, at_most=at_most)
        assert len(same) == expected and same.sum() == expected // 2
        assert len(set(zip(a, b, strict=True))) == expected
    with pytest.raises(
        ValueError, match=r'6 held-out faces of 3 .* have 6 verification'
    ):
        draw_pairs(np.repeat(range(3), 2), at_most=600)
    with pytest.raises(ValueError, match=r'have 0 .* Hold out more'):
        draw_pairs(np.zeros(50, int), at_most=600)


def test_impossible_pairs_are_refused():
    for labels in ([], np.arange(5), [0, 0]):
        with pytest.raises(ValueError, match='have 0 verification pairs'):
            draw_pairs(labels, at_most=2)
    for at_most in (0, -2, 3):
        with pytest.raises(ValueError, match='positive even'):
            draw_pairs([0, 0, 1, 1], at_most=at_most)
    with pytest.raises(ValueError, match='shape'):
        draw_pairs([[0, 0], [1, 1]], at_most=2)
