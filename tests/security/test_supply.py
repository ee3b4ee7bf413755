"""What is installed and what is started: every package pinned with its hashes, and no shell with anybody's words."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted({*ROOT.glob("requirements*.lock"), *ROOT.glob("images/**/*.lock")})
PINNED = re.compile(r"(?P<name>[A-Za-z0-9._-]+(\[[a-z0-9,_-]+\])?)==(?P<version>[^\s;]+)(?P<when> ; [^\\]+?)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
FOLDERS = ("carryover", "carryover_kfp", "components", "pipelines", "tools", "examples", "images")


def requirements(text: str) -> list[list[str]]:
    """Each requirement as its words: the pin first, then its options."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = " ".join(lines).replace("\\ ", "\0 ").split("\0")
    found: list[list[str]] = []
    for part in (piece for block in joined for piece in re.split(r"\s+(?=--)|(?<=[0-9a-f]{64})\s+(?!--)", block)):
        if part.strip().startswith("--") and found:
            found[-1].append(part.strip())
        elif part.strip():
            found.append([part.strip()])
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_package_is_pinned_with_its_hashes(lock: Path) -> None:
    found = requirements(lock.read_text())
    assert len(found) > 5
    for pin, *options in found:
        assert PINNED.fullmatch(pin), f"{pin}: must be NAME==VERSION, and from no index of its own"
        assert options, f"{pin}: has no hash"
        assert all(HASH.fullmatch(option) for option in options), f"{pin}: {options}"


def test_a_loose_line_would_be_seen() -> None:
    good = "a==1 \\\n    --hash=sha256:" + "0" * 64 + "\n"
    assert requirements(good + good) == [["a==1", "--hash=sha256:" + "0" * 64]] * 2
    for bad in ("a>=1", "--pre", "a @ https://example.org/a.whl", "a==1.* , <2"):
        assert not PINNED.fullmatch(requirements(bad)[0][0]), bad
    assert requirements("a==1\n" + good)[0] != ["a==1", "--hash=sha256:" + "0" * 64]


def calls(path: Path) -> list[tuple[str, list[str]]]:
    tree = ast.parse(path.read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [
        (ast.unparse(node.func), [f"{word.arg}={ast.unparse(word.value)}" for word in node.keywords]) for node in found
    ]


def test_nothing_is_started_through_a_shell() -> None:
    """But kfp's own wrapper of a step, a fixed script that gets the step's words as arguments."""
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        for name, words in calls(path):
            assert "shell=True" not in words, f"{path}: {name}"
            assert name not in {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}, path


def test_nobody_lifts_a_limit() -> None:
    """Pillow's on pixels, the CSV reader's on fields, Python's on digits: they stand between a small file and much."""
    lifted = re.compile(r"MAX_IMAGE_PIXELS|LOAD_TRUNCATED_IMAGES|field_size_limit|set_int_max_str_digits|huge_tree")
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        assert not lifted.search(path.read_text()), path
