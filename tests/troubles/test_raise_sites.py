"""Every error that is raised anywhere has an entry that explains it, and every entry is some error's."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from carryover.ground import trouble_page, troubles

ROOT = Path(__file__).resolve().parents[2]
CODES = {"CarryoverError": 1, "WrongInput": 2, "NoProgress": 3, "RunAgain": 75, "Superseded": 76}
# What one line of code can be, and the code that it ends with is another process's.
PASSED_ON = {"step-failed", "internal", "interrupted"}


@dataclass(frozen=True)
class Site:
    """One place in the code that makes an error of ours; `said` is "" where its module or class decides."""

    where: str
    module: str
    kind: str
    said: tuple[str, ...]
    is_passed_on: bool


def _trees() -> Iterator[tuple[str, str, ast.Module]]:
    for folder in ("carryover", "carryover_kfp"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield str(path.relative_to(ROOT)), module, ast.parse(path.read_text(encoding="utf-8"))


def _kinds() -> dict[str, tuple[int, str]]:
    """Class name -> exit code and usual trouble, of CarryoverError and all below it."""
    found: dict[str, tuple[int, str]] = {"CarryoverError": (1, "")}
    classes = [node for _, _, tree in _trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while new := [
        (one, base.id)
        for one in classes
        if one.name not in found
        for base in one.bases[:1]
        if isinstance(base, ast.Name) and base.id in found
    ]:
        for one, base in new:
            said = {
                target.id: statement.value.value
                for statement in one.body
                if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
                for target in statement.targets
                if isinstance(target, ast.Name)
            }
            code, usual = found[base]
            found[one.name] = (int(str(said.get("exit_code", code))), str(said.get("usual", usual)))
    return found


def _said(call: ast.Call) -> tuple[tuple[str, ...], bool]:
    value = next((keyword.value for keyword in call.keywords if keyword.arg == "trouble"), None)
    if isinstance(value, ast.Constant):
        return (str(value.value),), False
    if isinstance(value, ast.JoinedStr) and isinstance(value.values[0], ast.Constant):
        start = str(value.values[0].value)
        return tuple(name for name in trouble_page.entries() if name.startswith(start)), False
    return (), value is not None


def _sites() -> Iterator[Site]:
    kinds = _kinds()
    for path, module, tree in _trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            # "_ERRORS.get(code, CarryoverError)(...)" and "FINAL[code](...)": an error that another process said.
            looked_up = isinstance(node.func, ast.Call | ast.Subscript)
            if name in kinds or (looked_up and isinstance(node.func, ast.Call) and "Error" in ast.unparse(node.func)):
                said, is_passed_on = _said(node)
                yield Site(f"{path}:{node.lineno}", module, name, said, is_passed_on)


def test_every_raise_site_has_an_entry_and_its_exit_code() -> None:
    kinds, entries = _kinds(), trouble_page.entries()
    found: dict[str, set[int]] = defaultdict(set)
    sites = [site for site in _sites() if not site.is_passed_on]
    assert len(sites) > 500
    wrong: list[str] = []
    for site in sites:
        if site.kind not in kinds:
            wrong.append(f"{site.where}: says no trouble")
            continue
        code, usual = kinds[site.kind]
        names = site.said or ((usual,) if usual else ())
        if not names and site.kind == "WrongInput":
            names = (troubles.of_module(site.module),)
        for name in names or ("",):
            if name not in entries:
                wrong.append(f"{site.where}: {site.kind} says the trouble '{name}', which troubles.md does not have")
            elif site.said and name == troubles.of_module(site.module) and code == CODES["WrongInput"]:
                wrong.append(f"{site.where}: '{name}' is its module's already; leave it out")
            elif code not in entries[name].codes:
                wrong.append(f"{site.where}: '{name}' does not say that it may end with {code}")
            found[name].add(code)
    assert not wrong, "\n".join(wrong)
    # The launcher says these of ranks that said nothing themselves; a first look at a store passes on what ended it.
    for name in ("rank-lost", "nodes-apart"):
        found[name].add(CODES["RunAgain"])
    for name in ("store-unreachable", "disk-full"):
        found[name].add(CODES["WrongInput"])
    assert {name for name in entries if not found[name]} <= PASSED_ON
    for name in set(entries) - PASSED_ON:
        assert set(entries[name].codes) == found[name], f"{name}: the entry says other exit codes than its raise sites"


def test_the_table_of_modules_names_what_there_is() -> None:
    modules = {module for _, module, _ in _trees()}
    assert set(troubles.BY_MODULE) <= modules
    assert set(troubles.BY_MODULE.values()) <= set(trouble_page.entries())
    assert list(troubles.BY_MODULE) == sorted(troubles.BY_MODULE)


@pytest.mark.parametrize("entry", trouble_page.entries().values(), ids=lambda entry: entry.name)
def test_an_entry_says_all_that_it_must(entry: trouble_page.Entry) -> None:
    assert tuple(entry.parts) == trouble_page.LABELS
    assert all(entry.parts.values()) and entry.title.endswith(".")
    assert entry.codes and entry.part
    assert entry.parts["You see"].startswith("`") and entry.parts["You see"].endswith("`")
    # A reader of a terminal reads the same words.
    assert "](" not in "".join(entry.parts.values())


def test_the_page_of_the_docs_is_the_packaged_text() -> None:
    page = ROOT / "docs" / "troubleshooting.md"
    assert page.read_text(encoding="utf-8") == trouble_page.page(), f"carryover explain --all > docs/{page.name}"
