"""Owns the README of each component and pipeline: written from its signature, docstring and metadata, never by hand.

    # Title                 }
    stability, overview     }
    inputs, outputs         }  word for word what the generator of kubeflow/pipelines-components writes, whose check
    example_pipelines.py    }  compares it; it also prints None as the default of what has none
    metadata, links         }
    <!-- custom-content --> what stands below is left alone there: what must be given, the outputs by name, the import

python -m carryover_kfp.readme           writes them all
python -m carryover_kfp.readme --check   exits with 1 when one is out of date
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from carryover_kfp.assets import Asset, Signature, ours

CUSTOM = "<!-- custom-content -->"
_WIDTH = 120
_ACRONYMS = {"KFP", "API", "URL", "ID", "UI", "CI", "CD"}


def pages() -> Iterator[tuple[Path, str]]:
    """Yield (path, text) of the README of every component and pipeline."""
    for asset in ours():
        yield asset.folder / "README.md", page(asset)


def stale() -> list[Path]:
    """Return the READMEs that differ from what would be written."""
    return [path for path, text in pages() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def page(asset: Asset) -> str:
    """Return the text of a README: the catalog's part, its mark, and our part."""
    signature = asset.signature()
    return f"{_catalogs_part(asset, signature)}\n\n{CUSTOM}\n\n{_our_part(asset, signature)}"


def category_index(name: str, kind: str, assets: Iterable[Asset], below: Iterable[str]) -> str:
    """Return the README of a category as the catalog writes it: a line for each of its assets and each folder in it."""
    about = f"This directory contains {kind.lower()} in the **{_title(name)}** category:"
    lines = [f"# {_title(name)} {kind}", "", about, "", *_index_lines(assets)]
    if below:
        lines += ["## Subcategories", "", *(f"- [{_title(one)}](./{one}/README.md)" for one in sorted(below))]
    return "\n".join([*lines, ""])


def subcategory_index(name: str, kind: str, assets: Iterable[Asset]) -> str:
    """Return the README of a folder within a category as the catalog writes it."""
    about = f"This subcategory contains {kind.lower()} in the **{_title(name)}** group:"
    return "\n".join([f"# {_title(name)}", "", about, "", *_index_lines(assets), ""])


def _index_lines(assets: Iterable[Asset]) -> list[str]:
    rows = sorted((_title(asset.facts()["name"]), asset.name, _first_line(asset)) for asset in assets)
    return [f"- [{shown}](./{name}/README.md): {overview[:_WIDTH]}" for shown, name, overview in rows]


def _first_line(asset: Asset) -> str:
    return asset.signature().overview.split("\n")[0].strip()


def _catalogs_part(asset: Asset, signature: Signature) -> str:
    facts = dict(asset.facts())
    links = facts.pop("links", {})
    facts.pop("ci", None)
    facts["owners"] = yaml.safe_load((asset.folder / "OWNERS").read_text(encoding="utf-8"))
    lines = [f"# {_title(facts['name'])} ✨", ""]
    if facts["stability"] != "stable":
        lines += [
            f"> ⚠️ **Stability: {facts['stability']}** — This asset is not yet stable and may change.",
            "",
        ]
    lines += ["## Overview 🧾", "", _wrapped(signature.overview), ""]
    if signature.parameters:
        rows = [
            f"| `{one.name}` | `{one.type}` | {_default(one.default)} | {one.said} |" for one in signature.parameters
        ]
        head = ["| Parameter | Type | Default | Description |", "|-----------|------|---------|-------------|"]
        lines += ["## Inputs 📥", "", *head, *rows, ""]
    if signature.returns:
        row = f"| Output | `{signature.returns}` | {signature.returns_said} |"
        lines += ["## Outputs 📤", "", "| Name | Type | Description |", "|------|------|-------------|", row, ""]
    if example := _example(asset):
        lines += ["## Usage Examples 🧪", "", "```python", example, "```", ""]
    lines += ["## Metadata 🗂️", "", *(f"- **{_title(key)}**: {_value(value)}" for key, value in facts.items()), ""]
    if links:
        rows = [f"- **{key.replace('_', ' ').title()}**: [{link}]({link})" for key, link in links.items()]
        lines += ["## Additional Resources 📚", "", *rows, ""]
    # The generator leaves no blank at the end of a line, but one empty line at the end of the file.
    return "\n".join(line.rstrip() for line in "\n".join(lines).split("\n"))


def _our_part(asset: Asset, signature: Signature) -> str:
    needed = [f"`{one.name}`" for one in signature.parameters if one.default is ... and not one.output]
    rows = [f"| `{one.name}` | `{one.type}` | {one.said} |" for one in signature.outputs()]
    lines = ["## What must be given", "", ", ".join(needed) or "Nothing.", ""]
    if rows:
        lines += ["## Outputs by name", "", "| Name | Type | Description |", "|------|------|-------------|", *rows, ""]
    lines += ["## Use", "", "```python", f"from {asset.module} import {asset.name}", "```", ""]
    if asset.kind == "pipeline":
        lines += [
            f"Here: `carryover run {asset.name} --param ...`.",
            f"On a cluster: `carryover submit {asset.name} --host URL`.",
            "",
        ]
    return "\n".join([*lines, "Written by `python -m carryover_kfp.readme` from the docstring; change it there.", ""])


def _example(asset: Asset) -> str:
    path = asset.folder / "example_pipelines.py"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _wrapped(text: str) -> str:
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    fill = [
        textwrap.fill(paragraph, width=_WIDTH, break_long_words=False, break_on_hyphens=False)
        for paragraph in paragraphs
    ]
    return "\n\n".join(fill)


def _default(value: Any) -> str:
    # What has no default is printed as None there, as if that were one.
    shown = None if value is ... else value
    return '`""`' if shown == "" else f"`{shown}`"


def _title(name: str) -> str:
    """Return "lastVerified" or "last_verified" as "Last Verified"."""
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).replace("_", " ").replace("-", " ").split()
    return " ".join(word.upper() if word.upper() in _ACRONYMS else word.capitalize() for word in words)


def _value(value: Any, depth: int = 0) -> str:
    """Return a value of metadata.yaml as the catalog shows it: lists and mappings as lines below each other."""
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if value is None or value in ([], {}):
        return "None"
    if isinstance(value, Mapping):
        said = {_title(key): _value(one, depth + 1) for key, one in value.items()}
        items = [f"{key}:{one}" if "\n" in one else f"{key}: {one}" for key, one in said.items()]
    elif isinstance(value, list):
        items = [
            ", ".join(f"{_title(key)}: {one}" for key, one in item.items()) if isinstance(item, Mapping) else str(item)
            for item in value
        ]
    else:
        return str(value)
    return "".join(f"\n{'  ' * depth}  - {item}" for item in items)


def main() -> None:
    """Write all READMEs, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when one is out of date")
    if parser.parse_args().check:
        for path in (found := stale()):
            print(f"{path} is out of date: run `python -m carryover_kfp.readme`", file=sys.stderr)
        sys.exit(bool(found))
    for path, text in pages():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
