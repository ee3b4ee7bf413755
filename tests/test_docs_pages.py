"""Pages that are written from code are what the code says now, and the site has no broken link."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.page_blocks import ROOT
from tools import command_page, component_pages


def test_component_and_pipeline_pages_are_current() -> None:
    assert [str(path.relative_to(ROOT)) for path in component_pages.stale()] == [], "run `make docs`"


def test_the_command_line_page_is_current() -> None:
    assert command_page.PAGE.read_text(encoding="utf-8") == command_page.page(), "run `make docs`"


def test_every_command_is_on_the_page() -> None:
    text = command_page.PAGE.read_text(encoding="utf-8")
    found = dict(command_page.commands())
    assert {"train-ddp", "checkpoint ls", "run"} <= found.keys()
    assert [name for name in found if f"\n## {name}\n" not in text] == []


@pytest.mark.timeout(120)
def test_the_site_is_built_without_a_broken_link_and_without_a_network(tmp_path: Path) -> None:
    """--strict: a link, an anchor or a page outside of the navigation that is not there ends the build."""
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    # A proxy that nobody answers: whatever the build would fetch fails.
    env = {
        **os.environ,
        "NO_MKDOCS_2_WARNING": "1",
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    built = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert (tmp_path / "site" / "search" / "search_index.js").is_file()
    # A link to a file outside of docs/ leads to its copy, on the forge and here.
    assert (tmp_path / "site" / "files" / "CHANGELOG.html").is_file()
    page = (tmp_path / "site" / "architecture.html").read_text(encoding="utf-8")
    assert 'href="files/CONTRIBUTING.html#add-a-model-family"' in page
    component = (tmp_path / "site" / "components" / "train_ddp.html").read_text(encoding="utf-8")
    assert 'href="../files/components/train_ddp/component.py.html"' in component
