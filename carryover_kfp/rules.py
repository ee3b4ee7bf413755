"""Owns what kubeflow/pipelines-components asks of a component's or pipeline's folder, and says what is against it.

    python -m carryover_kfp.rules          the folders of this installation
    python -m carryover_kfp.rules DIR      a tree in the catalog's own form: DIR/components/<category>/<name>

Exits with 1 when anything is found. Two things differ here from there: our image's name is allowed, and pipelines may
import carryover_kfp (`python -m tools.upstream` writes both as the catalog wants them).
"""

import argparse
import ast
import contextlib
import importlib.util
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from carryover.ground.errors import WrongInput
from carryover_kfp import readme
from carryover_kfp.assets import Asset, decorator, laid_out, ours
from carryover_kfp.rules_metadata import metadata, owners

PACKAGE = "kfp_components"
CATEGORIES = ("data_processing", "deployment", "evaluation", "training")
# The catalog's own list, and the one exception to it: our image before it is one of theirs, never by a moving tag.
IMAGES = (r"ghcr\.io/kubeflow/.*", r"python:\d+\.\d+.*")
OUR_IMAGE = r"carryover:v\d+\.\d+\.\d+"


@dataclass(frozen=True)
class Breach:
    """One thing that is against a rule, and in which folder."""

    folder: Path
    rule: str
    said: str

    def __str__(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}: {self.rule}: {self.said}"


def breaches(assets: Iterable[Asset]) -> list[Breach]:
    """Return all that is against the rules in these folders; a rule that can't even read its file is one too."""
    found = []
    for asset in assets:
        for name, rule in RULES.items():
            try:
                said = list(rule(asset))
            except (OSError, SyntaxError, KeyError, TypeError, yaml.YAMLError, WrongInput) as error:
                said = [f"can't be checked: {type(error).__name__}: {error}"]
            found += [Breach(asset.folder, name, one) for one in said]
    return found


def _place(asset: Asset) -> Iterator[str]:
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", asset.name):
        yield f"'{asset.name}' is not snake_case"
    _, _, *above, _ = asset.module.split(".")
    if above and (above[0] not in CATEGORIES or len(above) > 2):
        yield f"lies in {'/'.join(above)}; a category is one of {', '.join(CATEGORIES)}, with one level more at most"


def _files(asset: Asset) -> Iterator[str]:
    tests = [f"tests/test_{asset.kind}_{what}.py" for what in ("unit", "local")]
    needed = [asset.code.name, "__init__.py", "metadata.yaml", "README.md", "OWNERS", "example_pipelines.py", *tests]
    yield from (f"{name} is missing" for name in needed if not (asset.folder / name).is_file())


def _packages(asset: Asset) -> Iterator[str]:
    for folder in sorted({path.parent for path in asset.folder.rglob("*.py")}):
        if not (folder / "__init__.py").is_file():
            yield f"{folder.relative_to(asset.folder)} has code but no __init__.py: no wheel would carry it"
    exported = ast.parse((asset.folder / "__init__.py").read_text(encoding="utf-8")).body
    named = [ast.unparse(node.value) for node in exported if isinstance(node, ast.Assign)]
    if named != [f"['{asset.name}']"]:
        yield f"__init__.py must export {asset.name} alone, by __all__"


def _imports(asset: Asset) -> Iterator[str]:
    allowed = {*sys.stdlib_module_names, "kfp", "pytest"}
    if asset.kind == "pipeline":
        # A pipeline may import the package that it is part of.
        allowed.add(asset.module.partition(".")[0])
    for path in sorted(asset.folder.rglob("*.py")):
        for name, line in _top_level(ast.parse(path.read_text(encoding="utf-8"))):
            if name.partition(".")[0] not in allowed:
                yield f"{path.relative_to(asset.folder)}:{line} imports {name} at the top; import it where it is used"
            elif name.startswith("carryover_kfp.") and not _known(name):
                yield f"{path.relative_to(asset.folder)}:{line} imports {name}, which does not move to the catalog"


def _known(name: str) -> bool:
    return name.startswith(("carryover_kfp.components.", "carryover_kfp.pipelines.")) or name == "carryover_kfp.retries"


def _top_level(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield (module, line) of the absolute imports outside functions and classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and not child.level:
            yield child.module or "", child.lineno
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _top_level(child)


def _image(asset: Asset) -> Iterator[str]:
    if asset.kind == "pipeline":
        return
    for one in asset.function().decorator_list:
        given = {word.arg: word.value for word in one.keywords} if isinstance(one, ast.Call) else {}
        image = given.get("base_image")
        if not (isinstance(image, ast.Constant) and isinstance(image.value, str)):
            yield "base_image must be a literal in the decorator: it is found and replaced without running the file"
        else:
            yield from _foreign(asset, {image.value})


def _foreign(asset: Asset, images: Iterable[str]) -> Iterator[str]:
    patterns = IMAGES if asset.module.startswith(f"{PACKAGE}.") else (*IMAGES, OUR_IMAGE)
    for image in sorted(images):
        if not any(re.fullmatch(pattern, image) for pattern in patterns):
            yield f"the image {image} is none of those allowed: {', '.join(patterns)}"


def _docstring(asset: Asset) -> Iterator[str]:
    signature = asset.signature()
    if signature.name != asset.name:
        yield f"the function is called {signature.name}, not {asset.name}"
    if not signature.overview:
        yield "the function has no docstring"
    for one in (*signature.parameters, *signature.fields):
        if not one.said:
            yield f"'{one.name}' has no words in the docstring"
        # The README's tables are written as they stand here.
        elif "|" in one.said:
            yield f"'{one.name}': its words must not hold a '|'"
    for one in signature.parameters:
        if "\n" in one.said:
            yield f"'{one.name}': its words must stand on one line"


def _readme(asset: Asset) -> Iterator[str]:
    if (asset.folder / "README.md").read_text(encoding="utf-8") != readme.page(asset):
        yield "README.md is not what `python -m carryover_kfp.readme` writes"


def _compiles(asset: Asset) -> Iterator[str]:
    examples = asset.folder / "example_pipelines.py"
    tree = ast.parse(examples.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    names = [node.name for node in functions if "pipeline" in map(decorator, node.decorator_list)]
    if not names:
        yield "example_pipelines.py has no pipeline"
    for path, called in ((asset.code, [asset.name]), (examples, names)):
        try:
            module = _loaded(path)
            images = {image for name in called for image in _images(getattr(module, name))}
        # Whatever an author's file raises is what is wrong with it.
        except Exception as error:
            yield f"{path.name} does not compile: {' '.join(str(error).split())}"
        else:
            yield from (f"{path.name}: {said}" for said in _foreign(asset, images))


def _loaded(path: Path) -> ModuleType:
    """Run a file by its path alone, as the catalog's checks do: relative imports don't work in it."""
    spec = importlib.util.spec_from_file_location(f"checked_{'_'.join(path.parts[-3:-1])}_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise WrongInput(f"{path}: is no Python file")
    module = importlib.util.module_from_spec(spec)
    # kfp looks a component's source up by its module.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


def _images(component: Any) -> Iterator[str]:
    from carryover_kfp.compiling import compiled

    spec = next(iter(yaml.safe_load_all(compiled(component))))
    yield from (one["container"]["image"] for one in spec["deploymentSpec"]["executors"].values() if "container" in one)


RULES: dict[str, Callable[[Asset], Iterator[str]]] = {
    "place": _place,
    "files": _files,
    "packages": _packages,
    "metadata": metadata,
    "owners": owners,
    "imports": _imports,
    "image": _image,
    "docstring": _docstring,
    "readme": _readme,
    "compiles": _compiles,
}


@contextlib.contextmanager
def importable(root: Path) -> Iterator[None]:
    """Let `root` be imported as the catalog's package for a while."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, PACKAGE).symlink_to(root.resolve(), target_is_directory=True)
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path.remove(folder)
            for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
                del sys.modules[name]


def main() -> None:
    """Check the folders of this installation, or those of a tree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", nargs="?", type=Path, help="a tree in the catalog's form; without it, our own folders")
    root = parser.parse_args().root
    if root and not (root / "components").is_dir():
        parser.error(f"{root}: has no folder components/")
    assets = laid_out(root, PACKAGE) if root else ours()
    with importable(root) if root else contextlib.nullcontext():
        found = breaches(assets)
    for one in found:
        print(one, file=sys.stderr)
    print(f"{len(assets)} folders, {len(found)} breaches of {len(RULES)} rules")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
