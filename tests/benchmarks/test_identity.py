"""The summary of what L_SI adds on real people."""

from benchmarks.studies import identity


def row(similarity, gain=None):
    columns = {'psnr': 26.0, 'judge_similarity': similarity}
    columns['verification_accuracy'] = 0.85
    found = {place: dict(columns) for place in ('fold 7', 'fold 8', 'drawn')}
    for place in found if gain else ():
        found[place]['gain'] = {'judge_similarity': [gain, gain - 0.1, gain + 0.1]}
    found['drawn']['judge_similarity'] += 0.1
    return found


def test_means_are_over_the_seeds_that_a_row_has():
    control = row(0.3)
    seeds = {
        '0': {'originals': {}, 'bicubic': row(0.2), 'L_SR only': control},
        '1': {'originals': {}, 'bicubic': row(0.2), 'L_SR only': control},
    }
    seeds['0'] |= {'a': row(0.5, 0.2), 'b': row(0.4, 0.1)}
    seeds['1'] |= {'a': row(0.6, 0.3)}
    lines = identity.summary({'seeds': seeds}).splitlines()[2:]
    cells = {line.split(' | ')[0]: line.split(' | ')[1:8] for line in lines}
    assert cells == {
        '| bicubic': ['', '26.00', '0.2000', '', '85.0%', '26.00', '0.3000'],
        '| L_SR only': [
            *('2', '26.00 ± 0.00', '0.3000 ± 0.0000', '', '85.0% ± 0.0%'),
            *('26.00 ± 0.00', '0.4000 ± 0.0000'),
        ],
        '| a': [
            *('2', '26.00 ± 0.00', '0.5500 ± 0.0707', '+0.2500 ± 0.0707'),
            *('85.0% ± 0.0%', '26.00 ± 0.00', '0.6500 ± 0.0707'),
        ],
        '| b': ['', '26.00', '0.4000', '+0.1000', '85.0%', '26.00', '0.5000'],
    }
