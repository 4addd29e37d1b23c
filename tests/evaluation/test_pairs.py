"""Lists of pairs, well-formed and not."""

import numpy as np
import pytest

from sicnn_jax.evaluation.pairs import (
    choose_folds,
    index_pairs,
    read_csv_pairs,
    read_lfw_pairs,
    read_pairs,
    read_ytf_pairs,
)

YTF = """split number, first name, second name, is same
1, Ann_Lee/0, Ann_Lee/3, 1
1, Ann_Lee/0, Bo/1, 0
2, Cy/2, Cy/4, 1
2, Cy\\2, Dee/0, 0
"""
CSV = 'path_a,path_b,same,fold\na/1.png,a/2.png,1,1\na/1.png,b/1.png,false,2\n'
LFW = """2\t2
Ann_Lee\t1\t4
Ann_Lee\t2\t14
Ann_Lee\t3\tBo\t1
Cy\t1\tBo\t2
Dee\t1\t2
Dee\t2\t3
Dee\t1\tEve\t120
Flo\t1\tEve\t1
"""


def test_read_lfw_pairs(tmp_path):
    path = tmp_path / 'pairs.txt'
    path.write_text(LFW)
    pairs = read_lfw_pairs(path)
    assert pairs[1] == ('Ann_Lee/Ann_Lee_0002.jpg', 'Ann_Lee/Ann_Lee_0014.jpg', True, 0)
    assert pairs[6] == ('Dee/Dee_0001.jpg', 'Eve/Eve_0120.jpg', False, 1)
    assert [pair.same for pair in pairs] == [True, True, False, False] * 2
    assert [pair.fold for pair in pairs] == [0] * 4 + [1] * 4


@pytest.mark.parametrize(
    ('found', 'replacement', 'message'),
    [
        ('2\t2\n', '4\n', 'line 1: expected the number of folds'),
        ('2\t2\n', '', 'line 1: expected the number of folds'),
        ('2\t2\n', '2\t3\n', 'line 1: announces 2 folds .* 12 lines .* but 8 do'),
        ('Ann_Lee\t2\t14', 'Ann_Lee\t2\tx', 'line 3: expected .Name i j. .*2.tx'),
        ('Ann_Lee\t2\t14', 'Ann_Lee\t2', 'line 3: expected .Name i j. '),
        ('Ann_Lee\t2\t14', 'Ann_Lee\t0\t14', 'line 3: expected .Name i j. '),
        ('Ann_Lee\t2\t14', 'Ann_Lee\t2\tBo\t1', 'line 3: expected .Name i j. '),
        ('Cy\t1\tBo\t2', 'Cy\t1\t2', 'line 5: expected .Name i Other j.'),
        ('Dee\t2\t3', '', 'line 7: expected .Name i j. .* found ..'),
    ],
)
def test_malformed_lfw_pairs_name_the_line(tmp_path, found, replacement, message):
    path = tmp_path / 'pairs.txt'
    path.write_text(LFW.replace(found, replacement))
    with pytest.raises(ValueError, match=f'pairs.txt, {message}'):
        read_lfw_pairs(path)


def test_read_ytf_pairs(tmp_path):
    path = tmp_path / 'splits.txt'
    path.write_text(YTF)
    assert read_ytf_pairs(path) == [
        ('Ann_Lee/0', 'Ann_Lee/3', True, 0),
        ('Ann_Lee/0', 'Bo/1', False, 0),
        ('Cy/2', 'Cy/4', True, 1),
        ('Cy/2', 'Dee/0', False, 1),
    ]
    # With or without the header.
    path.write_text(YTF.partition('\n')[2])
    assert len(read_ytf_pairs(path)) == 4


@pytest.mark.parametrize(
    ('found', 'replacement', 'message'),
    [
        ('2, Cy/2, Cy/4, 1', '2, Cy/2, Cy/4', 'line 4: expected'),
        ('2, Cy/2, Cy/4, 1', '2, Cy/2, Cy/4, 2', 'line 4: expected'),
        ('2, Cy/2, Cy/4, 1', '0, Cy/2, Cy/4, 1', 'line 4: expected'),
        ('2, Cy/2, Cy/4, 1', 'two, Cy/2, Cy/4, 1', 'line 4: expected'),
        ('2, Cy/2, Cy/4, 1', '2, , Cy/4, 1', 'line 4: expected'),
    ],
)
def test_malformed_ytf_pairs_name_the_line(tmp_path, found, replacement, message):
    path = tmp_path / 'splits.txt'
    path.write_text(YTF.replace(found, replacement))
    with pytest.raises(ValueError, match=f'splits.txt, {message}'):
        read_ytf_pairs(path)


def test_read_csv_pairs(tmp_path):
    path = tmp_path / 'pairs.csv'
    # A mark of spreadsheets in front.
    path.write_text('\ufeff' + CSV, encoding='utf-8')
    assert read_csv_pairs(path) == [
        ('a/1.png', 'a/2.png', True, 0),
        ('a/1.png', 'b/1.png', False, 1),
    ]


def test_csv_pairs_without_folds_are_dealt_to_ten(tmp_path):
    path = tmp_path / 'pairs.csv'
    lines = [f'a{i},b{i},{int(i < 20)}' for i in range(40)]
    path.write_text('\n'.join(['path_a,path_b,same', *lines]))
    pairs = read_csv_pairs(path)
    for same in (True, False):
        folds = [pair.fold for pair in pairs if pair.same == same]
        assert np.bincount(folds).tolist() == [2] * 10


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('path_a,path_b\n', "no column 'same'"),
        ('path_a,path_b,same\n', 'lists no pairs'),
        ('path_a,path_b,same\na,b,yes\n', 'line 2'),
        ('path_a,path_b,same\na,,1\n', 'line 2'),
        ('path_a,path_b,same\na,b\n', 'line 2'),
        ('path_a,path_b,same,fold\na,b,1,1\na,b,1,0\n', 'line 3'),
    ],
)
def test_malformed_csv_pairs_are_refused(tmp_path, text, message):
    path = tmp_path / 'pairs.csv'
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_csv_pairs(path)


@pytest.mark.parametrize(
    ('name', 'text', 'kind'),
    [('a.txt', LFW, 'lfw'), ('b.txt', YTF, 'ytf'), ('c.CSV', CSV, 'csv')],
)
def test_the_kind_of_list_is_recognised(tmp_path, name, text, kind):
    (tmp_path / name).write_text(text)
    assert read_pairs(tmp_path / name).kind == kind
    with pytest.raises(ValueError, match='cannot be read'):
        read_pairs(tmp_path / 'no.txt')


def test_folds_are_chosen_and_indexed(tmp_path):
    path = tmp_path / 'splits.txt'
    path.write_text(YTF + '3, Cy/2, Cy/4, 1\n')
    pairs = read_ytf_pairs(path)
    chosen = choose_folds(pairs, (1, 2), (2,), path)
    assert len(chosen) == 4
    keys = sorted({key for pair in chosen for key in pair[:2]})
    indices = index_pairs(chosen, {key: i for i, key in enumerate(keys)}, (2,))
    assert [keys[i] for i in indices.a] == [pair.key_a for pair in chosen]
    assert indices.fold.tolist() == [1, 1, 2, 2]
    assert indices.reported.tolist() == [False, False, True, True]
    with pytest.raises(ValueError, match='names fold 3'):
        choose_folds(pairs, (1, 2), (3,), path)
    with pytest.raises(ValueError, match='two or more'):
        choose_folds(pairs, (2,), (), path)
