"""Owns how the fenced blocks of the pages are read, and what the comments before them say of each.

<!-- setup: cp -r "$MADE"/. . -->              shell lines before the block that a reader does not need
<!-- run: here -->                             run in order with the others of this name on the page, in one shell
<!-- run by: tests/slow/test_readme.py -->     that test reads the page and runs it
<!-- run by: TEST as FILE -->                  it is the file, which that test runs
<!-- parsed as: recipe -->                     recipe, profile, yaml or json: data, held against what reads it
<!-- not run: it needs a cluster -->           why not
```sh                                          the comments stand right above; ```text is a drawing or output
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^( *)(`{3,})([\w-]*)[^\n]*\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
# The comments right above a fence; a page may have others, with an empty line behind them.
_ABOVE = re.compile(r"((?:^<!--(?:(?!-->).)*-->\n)+)\Z", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--\s*(setup|run|run by|parsed as|not run):(.*?)-->", re.DOTALL)
_ANY = re.compile(r"<!--(.*?)-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: where it is, its language, its text, its mark ("" for none) and what the mark says."""

    page: Path
    line: int
    language: str
    text: str
    setup: str
    mark: str
    said: str
    strange: tuple[str, ...]
    """Comments right above it that are none of the marks."""

    @property
    def where(self) -> str:
        """The page and line, as errors name it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Return all pages whose blocks are held against their marks, sorted."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page in their order.

    Raises:
        ValueError: when a block has two marks.
    """
    text = page.read_text(encoding="utf-8")
    for fence in _FENCE.finditer(text):
        above = _ABOVE.search(text[: fence.start()])
        comments = _ANY.findall(above[1]) if above else []
        found = [match for one in comments if (match := _COMMENT.fullmatch(f"<!--{one}-->"))]
        strange = tuple(one.strip() for one in comments if not _COMMENT.fullmatch(f"<!--{one}-->"))
        marks = [(match[1], " ".join(match[2].split())) for match in found if match[1] != "setup"]
        line = text.count("\n", 0, fence.start()) + 1
        if len(marks) > 1:
            raise ValueError(f"{page}:{line}: has more than one mark")
        mark, said = marks[0] if marks else ("", "")
        setup = "\n".join(match[2].strip() for match in found if match[1] == "setup")
        yield Block(page, line, fence[3], fence[4], setup, mark, said, strange)


def groups(page: Path) -> dict[str, list[Block]]:
    """Return the blocks of a page that are run together, by the name of their group."""
    found: dict[str, list[Block]] = {}
    for block in blocks(page):
        if block.mark == "run":
            found.setdefault(block.said, []).append(block)
    return found
