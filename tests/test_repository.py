"""Facts about the repository itself that would otherwise drift: the lock, the README's tree, the Makefile's verbs."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from carryover.train.recipe import keys
from tools import recipe_page

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Requirements of the lock: "name==version ; marker \" followed by indented hashes.
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)(?: ; [^\\]+)? \\$")


def _tracked() -> list[str]:
    """Files that git tracks, or would with `git add .` (so that the tests also hold before a commit)."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [name for name in listing if (ROOT / name).exists()]


LOCKS = ("requirements.lock", "requirements-detection.lock")


def _lock(name: str = LOCKS[0]) -> dict[str, list[str]]:
    pins: dict[str, list[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        found = PIN.match(line)
        if found:
            pins.setdefault(canonicalize_name(found[1]), []).append(found[2])
        else:
            assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), f"neither a pin nor a hash: {line}"
    return pins


def test_lock_satisfies_every_requirement_of_pyproject() -> None:
    base, detection = map(_lock, LOCKS)
    assert not base.keys() & detection.keys(), "what stands in the first lock is not said again: make lock"
    extras = {name: list(extra) for name, extra in PROJECT["optional-dependencies"].items()}
    asked = [(text, detection) for text in extras.pop("detection")]
    asked += [(text, base) for text in [*PROJECT["dependencies"], *(one for extra in extras.values() for one in extra)]]
    for text, pins in asked:
        wanted = Requirement(text)
        versions = pins.get(canonicalize_name(wanted.name), [])
        assert versions, f"no lock has {wanted.name}: make lock"
        assert all(wanted.specifier.contains(version) for version in versions), f"{text}, but the lock has {versions}"


@pytest.mark.parametrize("name", LOCKS)
def test_lock_names_no_index_and_hashes_every_pin(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert "--index" not in text
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in block for block in blocks)


def test_set_up_takes_uv_from_the_lock() -> None:
    assert "uv" in _lock()


# Spelt in two halves, so that this file does not find itself.
FORBIDDEN = ["--extra-index" + "-url", "--index" + "-url", "--find" + "-links", "python" + "hosted", "/sim" + "ple/"]


@pytest.mark.parametrize("words", FORBIDDEN)
def test_no_tracked_file_names_a_package_index(words: str) -> None:
    texts = [name for name in _tracked() if Path(name).suffix in {"", ".py", ".md", ".toml", ".sh", ".lock", ".yaml"}]
    assert len(texts) > 10
    assert [name for name in texts if words in (ROOT / name).read_text(encoding="utf-8")] == []


def _readme_tree() -> set[str]:
    """Paths of the README's tree: one a line with a description, folders end with a slash, two blanks a level."""
    block = re.search(r"## Files\n+```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block, "README.md has no '## Files' tree"
    paths: set[str] = set()
    parents: list[str] = []
    for line in block[1].splitlines():
        entry = re.fullmatch(r"( *)(\S+)\s{2,}\S.*", line)
        assert entry, f"neither a name nor a description: {line}"
        parents[len(entry[1]) // 2 :] = [entry[2]]
        paths.add("".join(parents))
    return paths


def test_readme_lists_every_top_level_entry_and_every_part_of_the_runtime() -> None:
    tracked = _tracked()
    top = {name.split("/")[0] + ("/" if "/" in name else "") for name in tracked}
    parts = {"/".join(name.split("/")[:2]) for name in tracked if name.startswith("carryover/")}
    runtime = {"carryover/" + part.split("/")[1] + ("/" if (ROOT / part).is_dir() else "") for part in parts}
    assert _readme_tree() == top | runtime - {"carryover/__init__.py"}


def test_readme_and_makefile_agree_on_the_verbs() -> None:
    verbs = set(re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split())
    pages = "\n".join((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
    named = set(re.findall(r"^make ([a-z][a-z-]+)|`make ([a-z][a-z-]+)", pages, re.MULTILINE))
    named = {word for pair in named for word in pair if word}
    assert {"setup", "demo", "test", "test-slow", "lint", "bench"} <= verbs
    assert named <= verbs


def test_recipe_page_is_what_the_config_classes_say() -> None:
    assert recipe_page.PAGE.read_text(encoding="utf-8") == recipe_page.page(), "run `make docs`"


def test_every_recipe_key_says_what_it_means() -> None:
    assert [name for name, info in keys().items() if not info.help] == []


def test_setup_says_which_python_it_wants(tmp_path: Path) -> None:
    """The first thing a stranger meets on a machine with another Python: one line, and nothing half made."""
    script = ["sh", "tools/make_venv.sh", str(tmp_path / "venv"), "requirements.lock", "python-of-another-age"]
    ended = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "no Python 3.11, 3.12 or 3.13 among: python-of-another-age" in ended.stderr
    assert not (tmp_path / "venv").exists()
