"""What README and docs show, for tests that run it."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def snippet(document: str, containing: str) -> str:
    """The one code block of a document that contains some text."""
    (found,) = [block for block in blocks(document) if containing in block]
    return found


def blocks(document: str, language: str = r'\w+') -> list[str]:
    """The code blocks of a document, or those in a language."""
    text = (ROOT / document).read_text(encoding='utf-8')
    return re.findall(rf'^```{language}\n(.*?)^```$', text, re.DOTALL | re.MULTILINE)


def commands(document: str) -> list[str]:
    """The lines of the shell blocks of a document, continued lines joined."""
    joined = ''.join(blocks(document, 'sh')).replace('\\\n', ' ')
    return [line for line in joined.splitlines() if line and not line.startswith('#')]
