"""The code blocks of README.md and docs/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tests.conftest import REPO

DOCUMENTS = [REPO / 'README.md', *sorted((REPO / 'docs').glob('*.md'))]
HOW_TO = sorted((REPO / 'docs/how_to').glob('*.md'))
"""Pages that are walked through, block after block, in one folder."""
FENCE = re.compile(r'(?:^<!-- not run: (.*?) -->\n)?^```(\w*)\n(.*?)^```', re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block."""

    path: Path
    language: str
    text: str
    reason: str | None
    """Why it is not run: of the comment ``<!-- not run: ... -->`` above it."""

    @property
    def is_shell(self) -> bool:
        return self.language in ('', 'sh', 'bash')


def blocks(path: Path) -> list[Block]:
    """All blocks of a document, in order."""
    text = path.read_text(encoding='utf-8')
    assert text.count('\n```') % 2 == 0, path
    found = [Block(path, m[2], m[3], m[1]) for m in FENCE.finditer(text)]
    assert 2 * len(found) == text.count('\n```'), path
    return found


def commands(block: Block) -> list[list[str]]:
    """Words of each command of a shell block, without comments and variables before it."""
    found = []
    for line in block.text.replace('\\\n', ' ').splitlines():
        words = line.split(' #')[0].split()
        while words and re.match(r'[A-Z_]+=', words[0]):
            words.pop(0)
        if words:
            found.append(words)
    return found


def without_ellipses(text: str) -> str:
    """A config sketch whose ``...`` stand for what is left out, as code."""
    text = re.sub(r'=\s*\.\.\.', '=None', text)
    text = re.sub(r'\*\*\.\.\.|(?<=[(,\s])\.\.\.\s*,', '', text)
    return re.sub(r',?\s*\.\.\.(?=\s*[)\]])', '', text)
