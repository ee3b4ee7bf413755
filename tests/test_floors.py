"""The floors that no linter sees: what importing our modules really loads, tried in a process of its own."""

import fnmatch
import json
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import carryover

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "torchvision", "transformers", "timm", "sklearn", "scipy", "matplotlib", "pandas"}
PROGRAM = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def _loaded_by(modules: list[str]) -> set[str]:
    """First names of everything in memory after `modules` were imported, in that order, by a fresh interpreter."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(modules)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout))


def _modules() -> dict[str, str]:
    """Module name -> file below the repository, for the whole runtime."""
    names = [module.name for module in pkgutil.walk_packages(carryover.__path__, "carryover.")]
    files = {name: name.replace(".", "/") for name in names if not name.endswith("__main__")}
    return {name: f"{file}/__init__.py" if (ROOT / file).is_dir() else f"{file}.py" for name, file in files.items()}


def test_what_the_parent_process_needs_loads_no_heavy_library() -> None:
    """Recipe, claim and "finished already" must answer before torch is loaded.

    Left out are the modules that pyproject.toml lets import torch, and the training floor, which lives in the ranks:
    what the parent takes from it (the recipe above all) is loaded here by the steps and the command line.
    """
    ignores = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["per-file-ignores"]
    heavy = [pattern for pattern, rules in ignores.items() if "TID253" in rules] + ["carryover/train/*"]
    light = [name for name, file in _modules().items() if not any(fnmatch.fnmatch(file, one) for one in heavy)]
    assert len(light) > 20
    assert _loaded_by([*light, "carryover.train.recipe"]) & HEAVY == set()


def test_the_runtime_never_loads_the_authoring_side() -> None:
    assert _loaded_by(list(_modules())) & {"kfp", "carryover_kfp", "components", "pipelines"} == set()


def test_the_authoring_side_loads_neither_torch_nor_the_runtime() -> None:
    """A component is compiled where only kfp is installed; the runtime is imported in its body, in the image."""
    folders = ("components", "pipelines")
    found = sorted(path for folder in folders for path in (ROOT / folder).rglob("__init__.py"))
    names = ["carryover_kfp." + ".".join(path.parent.relative_to(ROOT).parts) for path in found]
    assert "carryover_kfp.pipelines.train" in names
    assert _loaded_by(names) & (HEAVY | {"carryover"}) == set()
