"""Damaged photographs among good ones, and what `prepare` makes of them."""

import io
import pathlib
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from sicnn_jax.data import prepare, records

# Each of them would be 0.9 gigapixels.
_BOMB = (30_000, 30_000)


def photograph(rng: np.random.Generator) -> Image.Image:
    """A picture that is like no other, 150 × 180."""
    blocks = Image.fromarray(rng.integers(0, 256, (18, 15, 3), np.uint8))
    return blocks.resize((150, 180), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, encoding: str = 'jpeg') -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, encoding)
    return buffer.getvalue()


def kinds() -> dict[str, Callable[[np.random.Generator], bytes]]:
    """By its name, how to make a damaged file of each kind."""
    bomb = encoded(Image.new('1', _BOMB), 'png')

    def cut(encoding):
        def make(rng):
            whole = encoded(photograph(rng), encoding)
            return whole[: rng.integers(1, int(0.95 * len(whole)))]

        return make

    def turned(rng):
        """A photograph 20,000 long and 10 high."""
        return encoded(photograph(rng).resize((20_000, 10)))

    return {
        'cut short, JPEG': cut('jpeg'),
        'cut short, PNG': cut('png'),
        'text named .jpg': lambda rng: b'<html><body>404 Not Found</body></html>',
        'PostScript named .jpg': lambda rng: (
            b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 200 200\nshowpage\n%%EOF\n'
        ),
        'zero bytes': lambda rng: b'',
        '1×1': lambda rng: encoded(Image.new('RGB', (1, 1)), 'png'),
        '20,000×10': turned,
        'random bytes': lambda rng: rng.bytes(rng.integers(1, 20_000)),
        'decompression bomb': lambda rng: bomb,
    }


def make_source(
    directory: pathlib.Path, damaged: int, good: int, seed: int = 0
) -> dict[str, str]:
    """Writes photographs, ten an identity, damaged and good ones mixed.

    Returns:
      The kind of each file, by its path relative to the directory; good ones are
      `good`, or `good, PNG named .jpg`.
    """
    rng = np.random.default_rng(seed)
    makers = kinds()
    wanted = [list(makers)[i % len(makers)] for i in range(damaged)]
    wanted += ['good, PNG named .jpg' if i % 10 == 0 else 'good' for i in range(good)]
    made = {}
    for i, kind in enumerate(wanted[j] for j in rng.permutation(len(wanted))):
        path = f'person_{i // 10:04d}/{i:05d}.jpg'
        if kind in makers:
            content = makers[kind](rng)
        else:
            encoding = 'jpeg' if kind == 'good' else 'png'
            content = encoded(photograph(rng), encoding)
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
        made[path] = kind
    return made


def run(directory: pathlib.Path, damaged: int, good: int) -> dict[str, Any]:
    """Makes photographs, prepares them and compares.

    Returns:
      By kind, `made`, `used`, `reported` and `reasons` with their counts.
    """
    made = make_source(directory / 'source', damaged, good)
    out = directory / 'out'
    report = prepare.prepare(directory / 'source', out)
    used = {
        key
        for split in records.read_dataset_info(out).splits
        for key in records.read_keys(out, split)
    }
    reasons = {entry['file']: entry['reason'] for entry in report['skipped']}
    result = defaultdict(lambda: {'made': 0, 'used': 0, 'reported': 0, 'reasons': {}})
    for path, kind in made.items():
        row = result[kind]
        row['made'] += 1
        row['used'] += path in used
        row['reported'] += path in reasons
        if path in reasons:
            reason = reasons[path].split(':')[0]
            row['reasons'] = Counter(row['reasons']) + Counter([reason])
    return dict(result)


def is_right(kind: str, row: dict[str, Any]) -> bool:
    """Whether all of a kind were treated as they should be."""
    whole = kind.startswith('good')
    return (row['used'], row['reported']) == (
        (row['made'], 0) if whole else (0, row['made'])
    )
