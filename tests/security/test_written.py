"""What is written: no pickle anywhere, and no text of the data that a browser would take for a part of the page."""

import ast
import csv
import html.parser
import json
import pickletools
import zipfile
from pathlib import Path

import pytest

from carryover.data.manifest import load_card
from carryover.steps.evaluate import evaluate
from carryover.steps.prepare_data import prepare_data
from tests.train.attempts import Run

ROOT = Path(__file__).resolve().parents[2]
PICKLING = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "_pickle"}
UNSAFE_CALLS = {
    "torch.save", "torch.load", "np.save", "numpy.save", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
    "yaml.load_all", "pd.read_pickle", "pandas.read_pickle", "eval", "exec",
}  # fmt: skip

KNOWN = {
    # What --trust-pickle is for: see test_checkpoints.py, which tries it with and without.
    "carryover/models/trust.py": {"torch.load", "weights_only=False"},
    # The one form of ours that mmdet reads: tensors and text, as tests/train/test_detection.py makes sure.
    "carryover/models/dump_mmdet.py": {"torch.save"},
}

EVIL = ['<script>alert("1")</script>', '"><img src=x onerror=alert(1)>', "</title><svg onload='x'>", "a&b<i>"]


def sources() -> list[Path]:
    return [path for folder in ("carryover", "components", "pipelines") for path in (ROOT / folder).rglob("*.py")]


def names_used(tree: ast.AST) -> set[str]:
    """Dotted names of calls, and modules imported."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Call):
            # Of others' files tensors may be read, and nothing else.
            tensors = any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
            found.add(f"{ast.unparse(node.func)}{'(tensors)' if tensors else ''}")
        elif isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle", "weights_only"):
            found.add(f"{node.arg}={ast.unparse(node.value)}")
    return found


def test_no_source_pickles_or_runs_what_it_reads() -> None:
    for path in sources():
        name, used = path.relative_to(ROOT).as_posix(), names_used(ast.parse(path.read_text()))
        assert not used & PICKLING, name
        unsafe = UNSAFE_CALLS | {"trust_remote_code=True", "allow_pickle=True", "weights_only=False"}
        assert used & unsafe == KNOWN.get(name, set()), name


def is_pickle(path: Path) -> bool:
    """A stream that pickletools reads to its end, or a zip with one in it (torch.save)."""
    data = path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith((".pkl", ".pickle")) for name in archive.namelist())
    if not data.startswith(b"\x80"):
        return False
    try:
        return any(code.name == "STOP" for code, _, _ in pickletools.genops(data))
    except ValueError:
        return False


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store and the outputs of three steps, with names of columns and classes that are HTML."""
    folder = tmp_path_factory.mktemp("written")
    with (folder / "rows.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([EVIL[0], "y", EVIL[1]])
        rows.writerows([[i % 7 + (i % 3) * 5, i % 5, EVIL[i % 3 + 1]] for i in range(150)])
    prepared = prepare_data(
        source=[str(folder / "rows.csv")], label=EVIL[1], store=str(folder / "store"), output=str(folder / "data")
    )
    run = Run(load_card(prepared["uri"]), str(folder / "store"), {"data.record_samples": True}, folder)
    run.go()
    evaluate(
        model="run:run", dataset=[prepared["uri"]], store=str(folder / "store"), output=str(folder / "scored"),
        outputs_dir=str(folder / "outputs"),
    )  # fmt: skip
    return folder


def test_no_file_is_a_pickle(written: Path, tmp_path: Path) -> None:
    import pickle

    import torch

    files = [path for path in written.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} >= {"objects", "log", "model.ckpt", "preprocessors", "scored"}
    assert [path for path in files if is_pickle(path)] == []
    # The control: it would find them.
    (tmp_path / "plain").write_bytes(pickle.dumps({"a": [1]}))
    torch.save({"a": torch.zeros(1)}, tmp_path / "torch")
    assert all(is_pickle(path) for path in tmp_path.iterdir())


class Tags(html.parser.HTMLParser):
    """The page as a browser sees it: its tags, its attributes, its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_from_the_data_are_text_in_reports(written: Path) -> None:
    page = Tags()
    page.feed((written / "scored" / "report.html").read_text())
    assert not page.tags & {"script", "img", "i", "iframe", "link", "object"}
    assert not {name for name in page.attributes if name.startswith("on")}
    for name in EVIL[1:]:
        assert name in page.text, "the report shows each class and the label by its own name"
    metrics = json.loads((written / "scored" / "result.json").read_text())["confusion_matrix"]
    assert sorted(metrics["labels"]) == sorted(EVIL[1:])
