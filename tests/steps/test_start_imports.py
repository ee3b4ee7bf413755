"""What a start imports, pinned: what nobody needs costs seconds, and comes back by itself if nobody looks."""

import json
import subprocess
import sys

import pytest

from carryover.data.schema import Column, Schema
from carryover.steps.imports import imports_of
from carryover.train import recipe as recipes

HEAVY = {
    *"accelerate aiohttp boto3 botocore datasets fontTools kfp kubernetes matplotlib mlflow mmdet pandas peft".split(),
    *"rich s3fs scipy sklearn sympy tensorboard timm torch torchvision transformers".split(),
}
# torch's compiler comes with the first step of any optimizer, and sympy with it.
TORCH = {"torch", "sympy"}


def heavy_after(program: str, *arguments: str) -> set[str]:
    """The heavy packages that are loaded when a program has run."""
    program += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    said = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return HEAVY.intersection(said.stdout.split())


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        pytest.param(["text"], TORCH | {"transformers"}, id="text"),
        pytest.param(["numerical", "categorical"], TORCH, id="table", marks=pytest.mark.slow),
        pytest.param(["image_path"], TORCH | {"timm", "torchvision"}, id="image", marks=pytest.mark.slow),
    ],
)
def test_ranks_import_what_their_families_need(kinds: list[str], wanted: set[str]) -> None:
    label = Column("label", "categorical", "string", {"counts": {"a": 9, "b": 9}, "distinct": 2, "missing": 0})
    columns = tuple(
        Column(kind, kind, "string", {"counts": {"x": 9, "y": 9}, "distinct": 2, "missing": 0}) for kind in kinds
    )
    imports = imports_of(recipes.make({}), Schema("label", "binary", ("a", "b"), (*columns, label)))
    program = "import json, sys\nfrom carryover.launch.imports import Imports\n"
    program += "Imports.from_json(json.loads(sys.argv[1])).load()"
    assert heavy_after(program, json.dumps(imports.to_json())) == wanted
