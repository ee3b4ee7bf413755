"""Owns the outputs of examples/notebooks: each run in a kernel of its own, and tidied of its machine.

python -m tools.notebooks [NAME ...]     run them (all of them) and store them with their outputs

examples/notebooks/NAME.ipynb --copied beside a copy of examples/reviews--> a real kernel, in an empty folder
outputs --tidy--> no folder of this machine, no time, one text where a stream came in pieces
"""

import os
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "examples" / "notebooks"
SECONDS = 900
# What a card links to lies beside a notebook that was run, not beside a stored one.
_LINK = (re.compile(r'<a href="([^":]*)" target="_blank">full report</a>'), r"full report: <code>\1</code>")
# What differs from run to run and teaches nothing.
_TIMES = (
    (re.compile(r"  [\d,]+ rows/s.*$", re.MULTILINE), ""),
    (re.compile(r"\b(\d+h)?(\d+m)?\d+(\.\d+)? ?(s|ms|seconds)\b"), "…s"),
)


def run(name: str) -> Any:
    """Run a notebook from its stored source and return it with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: for a cell that failed and is not tagged `raises-exception`.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook: Any = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    with TemporaryDirectory(prefix="carryover-notebook-") as folder:
        here = Path(folder).resolve() / "notebooks"
        here.mkdir()
        shutil.copytree(ROOT / "examples" / "reviews", here.parent / "reviews")
        # (A bar of tqdm would be stored as each of its steps.)
        own = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1", "PYTHONPATH": str(ROOT)}
        kept = {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        try:
            resources = {"metadata": {"path": str(here)}}
            NotebookClient(
                notebook, timeout=SECONDS, kernel_name="python3", record_timing=False, resources=resources
            ).execute()
        finally:
            for variable, value in kept.items():
                os.environ.pop(variable, None) if value is None else os.environ.update({variable: value})
        return tidy(notebook, folders=(here, here.parent))


def tidy(notebook: Any, *, folders: Iterable[Path]) -> Any:
    """Take out of a notebook's outputs what belongs to this machine and this hour.

    Args:
        folders: that stand for "here", the innermost first.
    """
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [_plain(output, folders) for output in _joined(cell.outputs)]
    return notebook


def _joined(outputs: list[Any]) -> list[Any]:
    """Return outputs with the pieces of one stream, which come as a pipe gave them, as one."""
    found: list[Any] = []
    for output in outputs:
        stream = next((one for one in found if one.output_type == "stream" and one.name == output.get("name")), None)
        if output.output_type == "stream" and stream:
            stream.text += output.text
        else:
            found.append(output)
    return found


def _plain(output: Any, folders: Iterable[Path]) -> Any:
    if output.output_type == "stream":
        output.text = _clean(output.text, folders)
    if output.output_type == "error":
        output.evalue = _clean(output.evalue, folders)
        output.traceback = [_clean(line, folders) for line in output.traceback]
    if "data" in output:
        output.data = {
            kind: _clean(text, folders) if isinstance(text, str) else text for kind, text in output.data.items()
        }
    return output


def _clean(text: str, folders: Iterable[Path]) -> str:
    for folder in folders:
        text = text.replace(f"{folder}/", "").replace(str(folder), ".")
    text = text.replace(sys.prefix, "…")
    for pattern, instead in (_LINK, *_TIMES):
        text = pattern.sub(instead, text)
    return text


def main(names: list[str]) -> None:
    """Run notebooks and store them with their outputs."""
    import nbformat

    for name in names or sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")):
        nbformat.write(run(name), NOTEBOOKS / f"{name}.ipynb")
        print(f"examples/notebooks/{name}.ipynb")


if __name__ == "__main__":
    main(sys.argv[1:])
