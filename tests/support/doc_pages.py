"""The pages of the documentation and the blocks in them, for the tests that keep them true."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
_FENCE = re.compile(r"^[ ]*```(?P<language>\w*)\n(?P<text>.*?)^[ ]*```", re.MULTILINE | re.DOTALL)


def page_name(page: Path) -> str:
    """The name of a page in the list of tests, relative to the root."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """The fenced blocks of a page in one of the languages."""
    for match in _FENCE.finditer(page.read_text(encoding="utf-8")):
        if match["language"] in languages:
            yield match["text"]


def prose(page: Path) -> str:
    """The text of a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def table_cells(text: str, column: int) -> set[str]:
    """The code words in one column of all tables of a text."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {row[column].strip("` ") for row in rows if len(row) > column}
