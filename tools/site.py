"""Owns what the site has and docs/ has not: files of the repository that its pages link to, or its navigation names.

    docs/cluster.md: [recipe](../examples/recipe.yaml)     on the forge a link to the file, as it stands
                                                           on the site one to files/examples/recipe.yaml.md, its text
    mkdocs.yml: files/CHANGELOG.md                         the file CHANGELOG.md, as a page
    mkdocs.yml: examples/notebooks/extend.ipynb            the notebook with its stored outputs
    mkdocs.yml: components/*                               all pages of that folder, its index first

mkdocs calls the functions `on_*` while it builds (hooks in mkdocs.yml). Nothing is written into docs/.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[1]
DOCS, COPIES = "docs/", "files/"
_NOTEBOOK = ".ipynb"
_LONG = re.compile(r"<td><code>([\w.]{25,})</code>")
_JOINT, _BREAK = re.compile(r"(?<=[._])(?=\w)"), "<wbr>"
_LINK = re.compile(r"(?<=\]\()[^)\s]+(?=\))")
_CODE = re.compile(r"(^ *(?:```|~~~).*?^ *(?:```|~~~)[^\n]*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".sh": "sh", ".toml": "toml", ".json": "json"}


def on_config(config: Any) -> Any:
    """Put all pages of a folder where the navigation says `folder/*`."""
    config.nav = _expanded(config.nav)
    return config


@event_priority(100)  # before plugins that turn files into pages of their own kind
def on_files(files: Files, *, config: Any) -> Files:
    """Add a page for each file outside of docs/ that is linked to or stands in the navigation."""
    pages = [DOCS + file.src_uri for file in files.documentation_pages()]
    named = {_origin(name) for name in _named(config.nav) if name.startswith(COPIES) or name.endswith(_NOTEBOOK)}
    waiting = [*pages, *named]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or not (ROOT / name).is_file():
            continue  # what is not there mkdocs itself complains of
        seen.add(name)
        if not name.startswith(DOCS) and _place(name) not in files.src_uris:
            files.append(_copy(config, name, in_nav=name in named))
        if name.endswith(".md"):
            waiting += [found for found, _ in _targets(name) if not found.startswith(DOCS)]
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    place = page.file.src_uri
    name = _origin(place)
    if not (ROOT / name).is_file():
        return markdown
    for target, link in _targets(name, markdown):
        if not (name.startswith(DOCS) and target.startswith(DOCS)):
            anchor = urlsplit(link).fragment
            there = posixpath.relpath(_place(target), posixpath.dirname(place) or ".")
            markdown = markdown.replace(f"]({link})", f"]({there}{'#' + anchor if anchor else ''})")
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Let long dotted names in tables break behind a dot or an underscore, and nowhere else."""
    return _LONG.sub(lambda found: f'<td><code class="long">{_JOINT.sub(_BREAK, found[1])}</code>', html)


def _targets(name: str, markdown: str | None = None) -> Iterator[tuple[str, str]]:
    """Yield (file of the repository, link as it stands) for each relative link of a page that leads to a file."""
    text = (ROOT / name).read_text(encoding="utf-8") if markdown is None else markdown
    for link in {found for part in _CODE.split(text)[::2] for found in _LINK.findall(part)}:
        parts = urlsplit(link)
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), parts.path))
        if not parts.scheme and parts.path and (ROOT / target).is_file():
            yield target, link


def _copy(config: Any, name: str, *, in_nav: bool) -> File:
    level = InclusionLevel.INCLUDED if in_nav else InclusionLevel.NOT_IN_NAV
    if name.endswith(_NOTEBOOK):
        # Its plugin reads the file itself, from where it lies.
        return File(name, str(ROOT), config.site_dir, config.use_directory_urls, inclusion=level)
    return File.generated(config, _place(name), content=_content(name), inclusion=level)


def _place(name: str) -> str:
    """Return where a file of the repository lies on the site."""
    if name.startswith(DOCS) or name.endswith(_NOTEBOOK):
        return name.removeprefix(DOCS)
    return f"{COPIES}{name}" if name.endswith(".md") else f"{COPIES}{name}.md"


def _origin(place: str) -> str:
    """Return the file of the repository of a page, which may not exist."""
    if place.endswith(_NOTEBOOK):
        return place
    return place.removeprefix(COPIES) if place.startswith(COPIES) else DOCS + place


def _content(name: str) -> str:
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".md"):
        return text
    language = _LANGUAGES.get(Path(name).suffix, "text")
    return f"# {posixpath.basename(name)}\n\n`{name}`\n\n````{language}\n{text.rstrip()}\n````\n"


def _expanded(nav: Any) -> Any:
    if isinstance(nav, dict):
        return {title: _expanded(one) for title, one in nav.items()}
    if isinstance(nav, list):
        return [_expanded(one) for one in nav]
    if not nav.endswith("/*"):
        return nav
    folder = nav.removesuffix("*")
    names = sorted(path.name for path in (ROOT / DOCS / folder).glob("*.md") if path.name != "index.md")
    return [f"{folder}index.md", *(folder + name for name in names)]


def _named(nav: Any) -> Iterable[str]:
    """Yield every page that the navigation names, at any depth."""
    if isinstance(nav, str):
        yield nav
    for one in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _named(one)
