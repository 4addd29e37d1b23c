"""The summary of what L_SI adds on real people."""

from benchmarks.studies import identity


def row(similarity):
    columns = {'psnr': 26.0, 'ssim': 0.7, 'judge_similarity': similarity}
    places = ('fold 7', 'fold 8', 'drawn')
    return {place: columns | {'verification_accuracy': 0.85} for place in places}


def test_means_are_over_the_seeds_that_a_row_has():
    seeds = {
        '0': {'originals': {}, 'bicubic': row(0.2), 'a': row(0.5), 'b': row(0.4)},
        '1': {'originals': {}, 'bicubic': row(0.2), 'a': row(0.6)},
    }
    lines = identity.summary({'seeds': seeds}).splitlines()[2:]
    cells = {line.split(' | ')[0]: line.split(' | ')[1:4] for line in lines}
    assert cells == {
        '| bicubic': ['', '26.00', '0.2000'],
        '| a': ['2', '26.00 ± 0.00', '0.5500 ± 0.0707'],
        '| b': ['', '26.00', '0.4000'],
    }
