"""Owns docs/reliability.md: the sums of docs/reliability.jsonl, to which every sitting of `make torture` appends.

Each line of it: {"date", "what", "store", "count", "violations", "command"}.
"""

import json
from collections.abc import Iterable
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS = DOCS / "reliability.jsonl"
PAGE = DOCS / "reliability.md"
HEAD = """\
# Reliability: what was tried, and how often it went wrong

Sums over all sittings of `make torture` (`reliability.jsonl` holds every single result). A violation is anything that
must not happen: a torn or lost checkpoint, two histories, an attempt that does not end as it must; each is counted.
Controls run the same suite over something known to be wrong: there, violations must be found.

| what | store | tried | violations | sittings | last | command |
| --- | --- | ---: | ---: | ---: | --- | --- |
"""


def page(lines: Iterable[str]) -> str:
    """Return the whole page for these lines of results."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for line in lines:
        row = json.loads(line)
        groups.setdefault((row["what"], row["store"]), []).append(row)
    table = []
    for (what, store), rows in sorted(groups.items(), key=lambda item: (item[0][0].startswith("control"), item[0])):
        tried, wrong = (sum(row[key] for row in rows) for key in ("count", "violations"))
        last = max(rows, key=lambda row: row["date"])
        cells = (what, store, f"{tried:,}", f"{wrong:,}", len(rows), last["date"], f"`{last['command']}`")
        table.append(f"| {' | '.join(map(str, cells))} |\n")
    return HEAD + "".join(table)


def main() -> None:
    """Write the page."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    PAGE.write_text(page(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
