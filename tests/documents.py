"""What README and docs show, for tests that run it."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def snippet(document: str, containing: str) -> str:
    """The one code block of a document that contains some text."""
    text = (ROOT / document).read_text(encoding='utf-8')
    blocks = re.findall(r'^```\w+\n(.*?)^```$', text, re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if containing in block]
    return found


def commands(document: str) -> list[str]:
    """The lines of the shell blocks of a document, continued lines joined."""
    text = (ROOT / document).read_text(encoding='utf-8')
    blocks = re.findall(r'^```sh\n(.*?)^```$', text, re.DOTALL | re.MULTILINE)
    joined = ''.join(blocks).replace('\\\n', ' ')
    return [line for line in joined.splitlines() if line and not line.startswith('#')]
