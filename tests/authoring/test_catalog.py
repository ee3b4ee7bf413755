"""The rules of kubeflow/pipelines-components: our folders keep them all, and each kind of breach is seen."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from carryover_kfp import rules
from carryover_kfp.assets import Asset, ours

COMPONENT, PIPELINE = "components/dump_backbone", "pipelines/train"


def test_our_folders_keep_every_rule() -> None:
    assets = ours()
    assert len(assets) >= 13
    assert [str(one) for one in rules.breaches(assets)] == []


def replaced(old: str, new: str) -> Callable[[str], str]:
    """Another text of a file; the old one must have what is replaced."""

    def change(text: str) -> str:
        assert re.search(old, text, flags=re.MULTILINE), old
        return re.sub(old, new, text, count=1, flags=re.MULTILINE)

    return change


def verified(when: str) -> Callable[[str], str]:
    """Another time of the last look."""
    return replaced("lastVerified: .*", f"lastVerified: {when}")


# folder, rule that sees it, file, what happens to it (None: it is removed), what is said
PLANTED = [
    (COMPONENT, "files", "OWNERS", None, "OWNERS is missing"),
    (PIPELINE, "files", "tests/test_pipeline_unit.py", None, "tests/test_pipeline_unit.py is missing"),
    (COMPONENT, "packages", "tests/__init__.py", None, "tests has code but no __init__.py"),
    (COMPONENT, "packages", "__init__.py", replaced('"dump_backbone"', '"other"'), "must export dump_backbone alone"),
    (COMPONENT, "metadata", "metadata.yaml", replaced("stability: beta", "stability: ready"), "'ready' is none of"),
    (COMPONENT, "metadata", "metadata.yaml", replaced(">=2.17.0", ">=2.17"), "version '>=2.17' must have three"),
    (COMPONENT, "metadata", "metadata.yaml", replaced("name: Pipelines", "name: Pipes"), "must name Pipelines"),
    (COMPONENT, "metadata", "metadata.yaml", replaced("^stability:.*\n", ""), "must have name, stability, "),
    (
        COMPONENT,
        "metadata",
        "metadata.yaml",
        replaced("lastVerified: .*", "lastVerified: 2020-01-01T00:00:00Z"),
        "year",
    ),
    (
        COMPONENT,
        "metadata",
        "metadata.yaml",
        replaced("lastVerified: .*", "lastVerified: 2026-11-21"),
        "must be a time",
    ),
    (COMPONENT, "metadata", "metadata.yaml", replaced("^tags:", "ci: {other: 1}\ntags:"), "skip_dependency_probe"),
    (COMPONENT, "metadata", "metadata.yaml", replaced("^tags:", "colour: red\ntags:"), "has the keys"),
    (COMPONENT, "owners", "OWNERS", replaced("approvers:\n  - .*\n", "approvers:\n"), "at least one approver"),
    (COMPONENT, "imports", "component.py", replaced("^from kfp", "import numpy\nfrom kfp"), "imports numpy at the top"),
    (COMPONENT, "imports", "component.py", replaced("^from kfp", "import carryover\nfrom kfp"), "imports carryover at"),
    (COMPONENT, "imports", "tests/test_component_unit.py", replaced("^import", "import yaml\nimport"), "imports yaml"),
    (PIPELINE, "imports", "pipeline.py", replaced("^from kfp", "from carryover_kfp.pod import Pod\nfrom kfp"), "move"),
    (COMPONENT, "image", "component.py", replaced('"carryover:v0.1.0"', "IMAGE"), "must be a literal"),
    (
        COMPONENT,
        "image",
        "component.py",
        replaced("carryover:v0.1.0", "carryover:latest"),
        "image carryover:latest is none",
    ),
    (COMPONENT, "docstring", "component.py", replaced("^        store: .*\n", ""), "'store' has no words"),
    (COMPONENT, "docstring", "component.py", replaced("^        digest: .*\n", ""), "'digest' has no words"),
    (COMPONENT, "docstring", "component.py", replaced("(        store: .*)", r"\1\n            more"), "on one line"),
    (COMPONENT, "readme", "README.md", replaced("Dump Backbone", "Dump"), "is not what"),
    (COMPONENT, "readme", "example_pipelines.py", replaced("Where the", "Where this"), "is not what"),
    (COMPONENT, "compiles", "example_pipelines.py", replaced("model_uri=model_uri", "model=model_uri"), "not compile"),
    (COMPONENT, "compiles", "example_pipelines.py", replaced(r"(?s)@dsl\..*", ""), "has no pipeline"),
    (PIPELINE, "compiles", "pipeline.py", replaced("store=store", "stoer=store"), "pipeline.py does not compile"),
]


@pytest.mark.parametrize(("place", "rule", "file", "change", "said"), PLANTED)
def test_a_breach_is_seen(
    tmp_path: Path, place: str, rule: str, file: str, change: Callable[[str], str] | None, said: str
) -> None:
    (whole,) = [one for one in ours() if str(one.folder).endswith(place)]
    folder = tmp_path / place
    shutil.copytree(whole.folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / file
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text()))
    found = rules.breaches([Asset(whole.kind, folder, whole.module)])
    assert any(one.rule == rule and said in one.said for one in found), [str(one) for one in found]


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        ("carryover_kfp.components.dumpBackbone", "dumpBackbone", "not snake_case"),
        ("kfp_components.components.carrying.dump_backbone", "dump_backbone", "lies in carrying"),
        ("kfp_components.components.training.a.b.dump_backbone", "dump_backbone", "lies in training/a/b"),
    ],
)
def test_a_wrong_place_is_seen(tmp_path: Path, module: str, name: str, said: str) -> None:
    found = rules.breaches([Asset("component", tmp_path / name, module)])
    assert any(one.rule == "place" and said in one.said for one in found)
