"""Owns how our components and pipelines move to kubeflow/pipelines-components: where each goes, and what changes.

    components/<name>   ->  components/<category>/<name>
    pipelines/<name>    ->  pipelines/training/carryover/<name>, with shared/retries.py beside
    carryover_kfp.*     ->  kfp_components.*       the image of each component  ->  --image

python -m tools.upstream DIR     writes them into DIR (a checkout of the catalog, or an empty folder), then checks them
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

from carryover_kfp import readme, retries, rules
from carryover_kfp.assets import KINDS, Asset, laid_out, ours

CATEGORY = {
    "champion": "deployment",
    "dump_backbone": "training",
    "evaluate": "evaluation",
    "find_model": "deployment",
    "preflight": "data_processing",
    "prepare_data": "data_processing",
    "promote": "deployment",
    "train_ddp": "training",
    "transfer_train": "training",
}
# Pipelines share a module, so they need a folder of their own within a category.
PIPELINES = "training/carryover"
IMAGE = "ghcr.io/kubeflow/pipelines-components-carryover:main"
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "pipeline.yaml")

_SHARED = f'''"""How a task of a pipeline survives preemption: how often it is tried again, and for how long."""

from kfp import dsl


def with_preemption(task: dsl.PipelineTask, *, retries: int = {retries.RETRIES}) -> dsl.PipelineTask:
    """Let `task` be tried again after a failure, for a week, and never answer it from KFP's cache."""
    # Argo counts the longest time from the start of the FIRST attempt, and kills a retry that runs when it is over.
    task.set_retry(
        retries,
        backoff_duration="{retries.WAIT}",
        backoff_factor={retries.GROWTH},
        backoff_max_duration="{retries.LONGEST}",
    )
    return uncached(task)


def uncached(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Never answer `task` from KFP's cache, which sees neither new files behind a URI nor new code in an image."""
    task.set_caching_options(False)
    return task
'''


def lay_out(root: Path, *, image: str = IMAGE) -> list[Asset]:
    """Write all our components and pipelines below `root` in the catalog's form, and return them there."""
    places = {asset.module: _place(asset) for asset in ours()}
    for asset in ours():
        folder = root / places[asset.module]
        shutil.copytree(asset.folder, folder, dirs_exist_ok=True, ignore=_LEFT_OUT)
        for path in folder.rglob("*.py"):
            path.write_text(_moved(path.read_text(encoding="utf-8"), places, image), encoding="utf-8")
    _write_shared(root / "pipelines" / PIPELINES)
    _format([root / place for place in places.values()])
    folders = {root / place for place in places.values()}
    mine = [asset for asset in laid_out(root, rules.PACKAGE) if asset.folder in folders]
    for asset in mine:
        (asset.folder / "README.md").write_text(readme.page(asset), encoding="utf-8")
    _write_indexes(root)
    return mine


def _place(asset: Asset) -> str:
    if asset.kind == "pipeline":
        return f"pipelines/{PIPELINES}/{asset.name}"
    return f"components/{CATEGORY[asset.name]}/{asset.name}"


def _moved(text: str, places: dict[str, str], image: str) -> str:
    for module, place in places.items():
        text = re.sub(rf"\b{re.escape(module)}\b", f"{rules.PACKAGE}.{place.replace('/', '.')}", text)
    shared = f"{rules.PACKAGE}.pipelines.{PIPELINES.replace('/', '.')}.shared.retries"
    text = text.replace("from carryover_kfp.retries import", f"from {shared} import")
    return re.sub(rf'base_image="{rules.OUR_IMAGE}"', f'base_image="{image}"', text)


def _write_shared(folder: Path) -> None:
    (folder / "shared").mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text('"""Pipelines that survive preemption and carry models over."""\n')
    (folder / "shared" / "__init__.py").write_text('"""What these pipelines share."""\n')
    (folder / "shared" / "retries.py").write_text(_SHARED)
    shutil.copy(folder / "train" / "OWNERS", folder / "OWNERS")


def _format(folders: list[Path]) -> None:
    """Sort imports and wrap lines as the catalog's own configuration of ruff does: the packages' names have changed."""
    ruff = [sys.executable, "-m", "ruff"]
    how = ["--isolated", "--quiet", "--no-cache", "--line-length", "120", *map(str, folders)]
    subprocess.run([*ruff, "check", "--select", "I", "--fix", *how], check=True)
    subprocess.run([*ruff, "format", *how], check=True)


def _write_indexes(root: Path) -> None:
    """Write the README of each category and each folder in one, for what lies there now: ours and others'."""
    # As the catalog's generator does, which passes by a folder that is not whole.
    there = [
        one for one in laid_out(root, rules.PACKAGE) if one.code.is_file() and (one.folder / "metadata.yaml").is_file()
    ]
    for kind in KINDS:
        inside: dict[Path, list[Asset]] = {}
        for asset in there:
            if asset.folder.is_relative_to(root / kind):
                inside.setdefault(asset.folder.parent, []).append(asset)
        groups = [folder for folder in inside if folder.parent.parent == root / kind]
        for folder in groups:
            text = readme.subcategory_index(folder.name, kind.capitalize(), inside[folder])
            (folder / "README.md").write_text(text, encoding="utf-8")
        for category in {*inside, *(folder.parent for folder in groups)} - {*groups}:
            below = [folder.name for folder in groups if folder.parent == category]
            text = readme.category_index(category.name, kind.capitalize(), inside.get(category, []), below)
            (category / "README.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Lay our folders out, and check them there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path, help="where to: a checkout of the catalog, or an empty folder")
    parser.add_argument("--image", default=IMAGE, help=f"image of all components (default: {IMAGE})")
    given = parser.parse_args()
    if given.root.exists() and not given.root.is_dir():
        parser.error(f"{given.root}: is no folder")
    assets = lay_out(given.root.absolute(), image=given.image)
    with rules.importable(given.root):
        found = rules.breaches(assets)
    for one in found:
        print(one, file=sys.stderr)
    print(f"{len(assets)} folders in {given.root}, {len(found)} breaches; in the catalog: `make sync-packages`")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
