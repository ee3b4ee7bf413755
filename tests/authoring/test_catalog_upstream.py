"""Our folders laid out as kubeflow/pipelines-components has them: whole, by its names, and against no rule."""
# kfp makes a component of a function, and the type checker sees the function.
# pyright: reportArgumentType=false, reportCallIssue=false

import ast
from pathlib import Path

import pytest
import yaml

from carryover_kfp import catalog, retries, rules
from carryover_kfp.assets import ours
from tools import upstream


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All our folders in the catalog's form, in a checkout that has others already, one of them not whole."""
    root = tmp_path_factory.mktemp("catalog")
    other = root / "components" / "deployment" / "not_whole"
    other.mkdir(parents=True)
    (other / "metadata.yaml").write_text("name: not_whole\n")
    upstream.lay_out(root)
    return root


def test_nothing_is_against_a_rule_there(tree: Path) -> None:
    with rules.importable(tree):
        assets = [one for one in rules.laid_out(tree, rules.PACKAGE) if one.name != "not_whole"]
        assert {one.name for one in assets} == {one.name for one in ours()}
        assert [str(one) for one in rules.breaches(assets)] == []


def test_no_name_of_ours_is_left(tree: Path) -> None:
    """But for the tests, which need the runtime in any case, and are skipped without it."""
    for path in tree.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("carryover_kfp"), path
    assert "carryover:v" not in "".join(path.read_text() for path in tree.rglob("component.py"))


def test_retries_there_are_retries_here(tree: Path) -> None:
    """The module that pipelines share is written anew, because ours also knows profiles."""
    from kfp import compiler, dsl

    promote = catalog.load_component("promote")
    made: dict[str, object] = {}
    exec(compile((tree / "pipelines/training/carryover/shared/retries.py").read_text(), "retries.py", "exec"), made)

    def task(keep) -> dict:
        @dsl.pipeline(name="one")
        def one():
            keep(promote(name="a", store="s3://bucket/store"))

        compiler.Compiler().compile(one, str(tree / "one.yaml"))
        return next(yaml.safe_load_all((tree / "one.yaml").read_text()))["root"]["dag"]["tasks"]["promote"]

    assert task(made["with_preemption"]) == task(retries.with_preemption)
    assert task(made["uncached"]) == task(retries.uncached)


def test_each_category_lists_what_lies_there(tree: Path) -> None:
    page = (tree / "components" / "deployment" / "README.md").read_text()
    assert page.startswith(
        "# Deployment Components\n\nThis directory contains components in the **Deployment** category"
    )
    assert [line.split("]")[0] for line in page.splitlines() if line.startswith("-")] == [
        "- [Champion",
        "- [Find Model",
        "- [Promote",
    ]
    assert (
        "## Subcategories\n\n- [Carryover](./carryover/README.md)\n"
        in (tree / "pipelines" / "training" / "README.md").read_text()
    )
