"""Owns `python -m tools.manifests --schemas DIR [OVERLAY...]`: every overlay rendered, and held against its rules.

manifests/overlays/NAME --kubectl kustomize--> manifests --closed schemas, then our own rules--> what is wrong
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from tools import argo_rules, manifest_rules, manifest_schemas
from tools.manifest_schemas import Manifest

ROOT = Path(__file__).resolve().parents[1] / "manifests"
_RENDERERS = (("kustomize", ["build"]), ("kubectl", ["kustomize"]))


def overlays() -> list[str]:
    """Return the names of all overlays."""
    return sorted(path.parent.name for path in ROOT.glob("overlays/*/kustomization.yaml"))


def renderer() -> list[str] | None:
    """Return the words that render a folder, or None where neither kustomize nor kubectl is installed."""
    return next(([path, *words] for name, words in _RENDERERS if (path := shutil.which(name))), None)


def render(folder: Path) -> list[Manifest]:
    """Return the manifests that a folder renders to.

    Raises:
        RuntimeError: when nothing can render it, or it can't be rendered.
    """
    words = renderer()
    if words is None:
        raise RuntimeError("neither kustomize nor kubectl is installed")
    ended = subprocess.run([*words, str(folder)], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{folder}: {ended.stderr.strip()}")
    return list(yaml.load_all(ended.stdout, Loader=manifest_schemas.LOADER))


def problems(manifests: Sequence[Manifest], schemas: Path) -> list[str]:
    """Return what is wrong with the manifests of one overlay, a line each.

    Our own rules read fields as the schemas have them, so they are asked only where the schemas are content.
    """
    found = [line for manifest in manifests for line in manifest_schemas.problems(manifest, schemas)]
    return found or [*manifest_rules.problems(manifests), *argo_rules.problems(manifests, schemas)]


def files_with_secrets() -> list[Path]:
    """Return the files under manifests/, rendered or not, that have a value where only a name belongs."""
    return [path for path in sorted(ROOT.rglob("*.yaml")) if manifest_rules.secret_values(path.read_text())]


def main() -> int:
    """Check the overlays that are named, or all, and every file for secrets; return 1 when anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tools.manifests", description="Check manifests/ strictly.")
    parser.add_argument("--schemas", type=Path, required=True, help="folder of Argo's, Trainer's and JobSet's schemas")
    parser.add_argument("overlay", nargs="*", help=f"of {', '.join(overlays())}; default: all")
    given = parser.parse_args()
    if not (given.schemas / manifest_schemas.ARGO).is_file():
        parser.error(f"--schemas {given.schemas}: has no {manifest_schemas.ARGO}")
    if unknown := sorted(set(given.overlay) - set(overlays())):
        parser.error(f"no such overlay: {', '.join(unknown)}; there are {', '.join(overlays())}")
    found = [f"{path}: has the values of a secret" for path in files_with_secrets()]
    for name in given.overlay or overlays():
        try:
            manifests = render(ROOT / "overlays" / name)
        except RuntimeError as error:
            found.append(str(error))
            continue
        lines = problems(manifests, given.schemas)
        print(f"{name}: {len(manifests)} manifests, {len(lines) or 'none'} wrong")
        found += [f"{name}: {line}" for line in lines]
    print("\n".join(found), file=sys.stderr if found else sys.stdout)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
