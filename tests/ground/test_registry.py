"""Registries: imported on use, open to entry points, and clear about what is missing."""

import sys
from pathlib import Path

import pytest

from carryover.ground.errors import WrongInput
from carryover.ground.registry import Registry

TREES = Registry(
    "tree",
    {"oak": "os.path:join", "elm": ("not_installed_here.trees:Elm", "pip install elms"), "ash": "not_there:Ash"},
    group="carryover.test_trees",
)


def test_names_are_sorted_and_loaded_on_use() -> None:
    assert TREES.names() == ("ash", "elm", "oak")
    assert "oak" in TREES
    assert "fir" not in TREES
    assert TREES.load("oak") is sys.modules["os.path"].join


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(WrongInput) as near:
        TREES.load("oaks")
    assert str(near.value) == "unknown tree 'oaks'; did you mean 'oak'? Known: ash, elm, oak"
    with pytest.raises(WrongInput) as far:
        TREES.load("bicycle")
    assert str(far.value) == "unknown tree 'bicycle'. Known: ash, elm, oak"


def test_a_missing_library_is_named_with_what_to_install() -> None:
    with pytest.raises(WrongInput, match=r"^tree 'elm' needs not_installed_here, .* pip install elms$"):
        TREES.load("elm")
    # Without a hint it is our own mistake, and looks like one.
    with pytest.raises(ModuleNotFoundError):
        TREES.load("ash")


def test_another_package_adds_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "forest_plugin.py").write_text("class Fir:\n    height = 30\n")
    about = tmp_path / "forest-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: forest\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[carryover.test_trees]\nfir = forest_plugin:Fir\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert TREES.names() == ("ash", "elm", "fir", "oak")
    assert TREES.load("fir").height == 30
