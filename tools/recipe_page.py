"""Owns docs/recipe.md: every key that a recipe may have, written from the config classes themselves.

python -m tools.recipe_page           writes it
"""

from collections.abc import Iterable
from pathlib import Path

from carryover.ground.config import KeyInfo
from carryover.train.presets import BACKBONES, LEFT_OUT, PRESETS
from carryover.train.recipe import ALIASES, keys

PAGE = Path(__file__).resolve().parents[1] / "docs" / "recipe.md"
HEAD = """\
# Recipe

<!-- Written by `make docs` from the config classes; change it there. -->

A recipe is YAML, given by `--recipe FILE`, and `--set key=value` on top. The dotted names are AutoMM's. A key that does
not exist, or a value that cannot be, is one clear error before anything starts.

*Same run*: whether a start with another value finds the same run ("no": the key is part of the run's identity). *May
change*: whether a run that has begun may go on with another value, by `--run-key`.
"""


def page() -> str:
    """The whole page, as it should be."""
    sections: dict[str, list[KeyInfo]] = {}
    for path, info in keys().items():
        sections.setdefault(path.partition(".")[0] if "." in path else "", []).append(info)
    tables = [_table(f"## {name}" if name else "## The run", infos) for name, infos in sorted(sections.items())]
    aliases = ["## Other spellings", "", "| spelling | key |", "| --- | --- |"]
    aliases += [f"| `{alias}` | `{target}` |" for alias, target in sorted(ALIASES.items())]
    return "\n".join([HEAD, *tables, *aliases, "", *_presets()]) + "\n"


def _presets() -> list[str]:
    """What each preset sets, why these backbones, and what is other than AutoMM's."""
    lines = ["## Presets", "", "`presets: NAME` sets these keys; keys that are given win. The run is known by the keys"]
    lines += ["that come of it. No preset: every key at its default.", "", "| preset | sets |", "| --- | --- |"]
    for name, settings in PRESETS.items():
        lines.append(f"| `{name}` | {'; '.join(f'`{key}: {value}`' for key, value in settings.items())} |")
    lines += ["", "| backbone | why |", "| --- | --- |"]
    lines += [f"| `{name}` | {why} |" for name, why in BACKBONES.items()]
    lines += ["", "Other than AutoMM's:", ""]
    return [*lines, *(f"- {key}: {why}." for key, why in LEFT_OUT.items())]


def _table(title: str, infos: Iterable[KeyInfo]) -> str:
    heads = ("key", "default", "allowed", "meaning", "same run", "may change")
    lines = [title, "", f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for info in infos:
        cells = [f"`{info.path}`", f"`{_plain(info.default)}`", info.allowed, info.help]
        cells += ["no" if info.identity else "yes", "yes" if info.mutable else "no"]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _plain(value: object) -> str:
    """A default as YAML people write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return str(list(value)) if isinstance(value, tuple) else f"{value}" if value != "" else '""'


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
