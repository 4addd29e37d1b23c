"""Faces as HTML, with a slider from method to method."""

import json
from collections.abc import Mapping

import numpy as np

from sicnn_jax.evaluation.methods import TITLES
from sicnn_jax.reports.html_page import image_source

STYLE = """
.face { position: relative; display: inline-block; width: 144px; height: 168px;
  margin: 3px; }
.face img { position: absolute; inset: 0; width: 100%; height: 100%; }
.face img.lr { image-rendering: pixelated; }
#view { width: 30em; max-width: 100%; vertical-align: middle; }
"""
_NO_SCRIPT = (
    '<noscript><style>.face { width: auto; height: auto; } .face img { position: '
    'static; width: 96px; height: 112px; }</style></noscript>'
)
_SCRIPT = """
<script>
const view = document.getElementById('view'), titles = JSON.parse(view.dataset.titles);
view.oninput = () => {
  for (const image of document.querySelectorAll('.face img')) {
    const seen = Math.min(1, Math.max(0, view.value - image.dataset.place + 1));
    image.style.clipPath = `inset(0 ${100 * (1 - seen)}% 0 0)`;
  }
  document.getElementById('seen').textContent = titles[Math.round(view.value)];
};
view.oninput();
</script>
"""
_SHOWN = 12


def compare_faces(methods: Mapping[str, np.ndarray]) -> str:
    """Faces as HTML, with a slider from method to method.

    Args:
      methods: method → uint8 [n, h, w, 3], in the order of the slider.
    """
    count = len(next(iter(methods.values())))
    chosen = np.unique(np.linspace(0, count - 1, min(count, _SHOWN)).astype(int))
    titles = [TITLES.get(method, method) for method in methods]
    pictures = ''.join(
        '<span class="face">'
        + ''.join(
            f'<img class="{method}" data-place="{place}" alt="{titles[place]}" '
            f'src="{image_source(images[index])}">'
            for place, (method, images) in enumerate(methods.items())
        )
        + '</span>'
        for index in chosen
    )
    last = len(titles) - 1
    return (
        f'{_NO_SCRIPT}<p>{" / ".join(titles)}<br><input id="view" type="range" min="0" '
        f'max="{last}" step="0.01" value="{max(last - 1, 0)}" aria-label="method" '
        f'data-titles=\'{json.dumps(titles)}\'> <b id="seen"></b></p>'
        f'<p>{pictures}</p><p>{len(chosen)} of {count} held-out faces.</p>{_SCRIPT}'
    )
