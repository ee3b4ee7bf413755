"""Owns the rules of kubeflow/pipelines-components for metadata.yaml and OWNERS.

name, stability, dependencies {kubeflow: [{name, version}], external_services}, lastVerified    in this order
tags, ci, links                                                                                anywhere, or not
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import yaml

from carryover_kfp.assets import Asset

_REQUIRED = ["name", "stability", "dependencies", "lastVerified"]
_OPTIONAL = {"tags", "ci", "links"}
_STABILITY = ("experimental", "alpha", "beta", "stable")
_VERSION = re.compile(r"(==|>=|<=)?\d+\.\d+\.\d+([-+][0-9A-Za-z.-]+)?")
# What nobody has looked at for this long may be removed from the catalog.
_FRESH_DAYS = 365


def metadata(asset: Asset) -> Iterator[str]:
    """Yield what is wrong with metadata.yaml."""
    facts = asset.facts()
    if not isinstance(facts, dict):
        yield "must be a mapping"
        return
    keys = [key for key in facts if key not in _OPTIONAL]
    if keys != _REQUIRED:
        yield f"has the keys {', '.join(map(str, keys))}; must have {', '.join(_REQUIRED)}, in this order"
        return
    if not isinstance(facts["name"], str):
        yield f"name: {facts['name']!r} is no text"
    if facts["stability"] not in _STABILITY:
        yield f"stability: '{facts['stability']}' is none of {', '.join(_STABILITY)}"
    yield from _dependencies(facts["dependencies"])
    yield from _last_verified(facts["lastVerified"])
    tags = facts.get("tags", [])
    if not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        yield "tags: must be a list of texts"
    if not isinstance(facts.get("links", {}), dict):
        yield "links: must be a mapping"
    ci = facts.get("ci", {"skip_dependency_probe": False})
    if not (isinstance(ci, dict) and set(ci) == {"skip_dependency_probe"} and {*ci.values()} <= {True, False}):
        yield "ci: can only say skip_dependency_probe: true or false"


def _dependencies(found: Any) -> Iterator[str]:
    if not (isinstance(found, Mapping) and {"kubeflow"} <= set(found) <= {"kubeflow", "external_services"}):
        yield "dependencies: must have kubeflow, and may have external_services"
        return
    for group, listed in found.items():
        for one in listed if isinstance(listed, list) else [listed]:
            if not (isinstance(one, Mapping) and {"name", "version"} <= set(one)):
                yield f"dependencies.{group}: {one!r} must have a name and a version"
            elif not (isinstance(one["version"], str) and _VERSION.fullmatch(one["version"])):
                yield f"dependencies.{group}: version '{one['version']}' must have three numbers, e.g. '>=2.17.0'"
    if not any(isinstance(one, Mapping) and one.get("name") == "Pipelines" for one in found["kubeflow"]):
        yield "dependencies.kubeflow: must name Pipelines"


def _last_verified(found: Any) -> Iterator[str]:
    if not (isinstance(found, datetime) and found.tzinfo):
        yield f"lastVerified: '{found}' must be a time, as 2026-01-31T00:00:00Z"
    elif abs((datetime.now(UTC) - found).days) >= _FRESH_DAYS:
        yield f"lastVerified: {found:%Y-%m-%d} is a year away; look at it again and say when"


def owners(asset: Asset) -> Iterator[str]:
    """Yield what is wrong with OWNERS."""
    found = yaml.safe_load((asset.folder / "OWNERS").read_text(encoding="utf-8"))
    approvers = found.get("approvers") if isinstance(found, dict) else None
    if not (isinstance(approvers, list) and approvers and all(isinstance(one, str) for one in approvers)):
        yield "must list at least one approver"
