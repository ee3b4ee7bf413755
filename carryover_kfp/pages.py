"""Owns where the reports lie that the steps of a local run made: their artifacts' metadata names them."""

import json
from pathlib import Path


def reports_of(folder: Path) -> dict[str, str]:
    """Return task -> path or URI of its report, of a run whose artifacts lie in this folder, the oldest first."""
    told = sorted(folder.glob("**/executor_output.json"), key=lambda path: path.stat().st_mtime)
    found: dict[str, str] = {}
    for path in told:
        for one in json.loads(path.read_text()).get("artifacts", {}).values():
            for artifact in one.get("artifacts", ()):
                if place := artifact.get("metadata", {}).get("report"):
                    found[path.parent.name] = str(place)
    return found
