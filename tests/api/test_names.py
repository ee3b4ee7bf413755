"""What `import carryover` offers: the names, where they are documented, and what importing them does not load."""

import inspect
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import carryover
from carryover import api

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
NAMES = [name for name in carryover.__all__ if name != "__version__"]
PROGRAM = """
import json, sys
import carryover
alone = [name for name in sys.modules if name.startswith("carryover.")]
from carryover import Model, open, prepare, train, transfer
print(json.dumps([alone, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def test_importing_costs_nothing() -> None:
    command = [sys.executable, "-c", PROGRAM]
    alone, every = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert alone == []
    heavy = {
        "torch",
        "pyarrow",
        "numpy",
        "transformers",
        "sklearn",
        "matplotlib",
        "rich",
        "pandas",
        "IPython",
        "fsspec",
    }
    assert not heavy & set(every)


def test_the_names_are_those_of_the_api_and_of_its_page() -> None:
    assert sorted(api.__all__) == NAMES == [name for name in dir(carryover) if name != "__version__"]
    documented = set(re.findall(r"^\| `carryover\.(\w+)", PAGE, re.MULTILINE))
    assert documented == set(NAMES)


@pytest.mark.parametrize("name", ["Backbone", "Dataset", "Evaluation", "Model", "Run"])
def test_methods_of_results_are_on_the_page(name: str) -> None:
    kind = getattr(carryover, name)
    public = {word for word in vars(kind) if not word.startswith("_")} - {"word", *inspect.get_annotations(kind)}
    said = re.search(rf"^\| `carryover\.{name}` \|(.*)$", PAGE, re.MULTILINE)
    assert said and public <= set(re.findall(r"`(\w+)[^`]*`", said[1]))


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_and_field_is_explained(name: str) -> None:
    found = getattr(carryover, name)
    words = inspect.getdoc(found) or ""
    if isinstance(found, types.FunctionType):
        fields = list(inspect.signature(found).parameters)
        hints = inspect.get_annotations(found)
        assert set(hints) == {*fields, "return"}
    else:
        fields = list(inspect.get_annotations(found))
        every = [one for one in vars(found).values() if isinstance(one, (types.FunctionType, property))]
        assert all(inspect.getdoc(one) for one in every if not getattr(one, "__name__", "_").startswith("_"))
    assert [field for field in fields if not re.search(rf"\b{field}\b", words)] == []


def test_the_verb_train_and_the_floor_train_do_not_meet() -> None:
    from carryover.train import recipe
    from carryover.train.recipe import Recipe

    assert callable(carryover.train) and carryover.train is api.train
    assert recipe.Recipe is Recipe
    assert sys.modules["carryover.train"].__name__ == "carryover.train"


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fit'"):
        carryover.fit  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
