"""The columns of tables: the title and format of each measure."""

from collections.abc import Iterable, Mapping

MEASURES = {
    'psnr': ('PSNR', '{:.2f}'),
    'ssim': ('SSIM', '{:.4f}'),
    'identity_similarity': ('identity sim.', '{:.4f}'),
    'judge_similarity': ('judge sim.', '{:.4f}'),
    'verification_accuracy': ('verification', '{:.1%}'),
}


def text_table(
    fields: Iterable[str], rows: Mapping[str, Mapping[str, float | None]]
) -> list[str]:
    """Lines of text: each method and its `fields` of `MEASURES`; empty if missing."""
    columns = [(field, *MEASURES[field]) for field in fields]
    cells = {'method': [title for _, title, _ in columns]}
    for method, row in rows.items():
        values = [(row.get(field), form) for field, _, form in columns]
        cells[method] = ['' if v is None else form.format(v) for v, form in values]
    first = max(8, *map(len, cells))
    return [
        f'{method:<{first}}' + ''.join(f'{cell:>15}' for cell in row)
        for method, row in cells.items()
    ]
