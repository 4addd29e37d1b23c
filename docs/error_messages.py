"""The texts of all errors that the package raises, for the troubleshooting page.

A hook of MkDocs, which puts them in the place of the comment there.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

PLACE = '<!-- all error messages -->'
_PACKAGE = Path(__file__).parent.parent / 'sicnn_jax'


def messages() -> Iterator[tuple[str, str]]:
    """Module and text of each error that is raised, with … where a value stands."""
    for path in sorted(_PACKAGE.rglob('*.py')):
        module = '.'.join(path.relative_to(_PACKAGE.parent).with_suffix('').parts)
        found = {
            text
            for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
            for text in map(_text, node.exc.args[:1])
            if ' ' in text
        }
        yield from ((module, text) for text in sorted(found))


def _text(node):
    """Of a string or f-string."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return ''.join(
            str(part.value) if isinstance(part, ast.Constant) else '…'
            for part in node.values
        )
    return ''


def on_page_markdown(markdown, page, config, files):
    """Called by MkDocs for each page."""
    if PLACE not in markdown:
        return markdown
    lines, last = [], ''
    for module, text in messages():
        if module != last:
            lines += ['', f'**{module}**', '']
            last = module
        line = ' '.join(text.split()).replace('`', '')
        lines.append(f'- `{line}`')
    return markdown.replace(PLACE, '\n'.join(lines))
