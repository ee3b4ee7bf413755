"""The wheel carries the whole tree, the authoring side too, without a list of packages kept by hand."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# Where each folder of the tree is found in the wheel.
FOLDERS = {
    "carryover": "carryover",
    "carryover_kfp": "carryover_kfp",
    "components": "carryover_kfp/components",
    "pipelines": "carryover_kfp/pipelines",
    "profiles": "carryover_kfp/profiles",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built offline from a copy of the tree, so that no build folder is left beside the code."""
    copy = tmp_path_factory.mktemp("tree")
    for name in [*FOLDERS]:
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        if (REPOSITORY / name).exists():
            shutil.copy(REPOSITORY / name, copy)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", str(copy), "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--quiet", "--wheel-dir", str(out)], check=True, capture_output=True, text=True)
    (built,) = out.glob("carryover-*.whl")
    return built


def tree() -> set[str]:
    """All files under version control's folders as the wheel should name them."""
    found = set()
    for folder, target in FOLDERS.items():
        for path in (REPOSITORY / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found.add(f"{target}/{path.relative_to(REPOSITORY / folder).as_posix()}")
    return found


def test_the_wheel_is_the_tree(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == tree()


def test_the_wheel_alone_knows_every_verb_and_pipeline(wheel, tmp_path):
    """Unpacked somewhere else, with the tree out of reach, the authoring side works from the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        # The editable install of the tree would answer first.
        "sys.meta_path[:] = [finder for finder in sys.meta_path if 'ditable' not in repr(finder)]\n"
        "import carryover_kfp, carryover_kfp.components as components\n"
        "from carryover_kfp import catalog, compiling\n"
        "assert carryover_kfp.__file__.startswith(sys.argv[1]), carryover_kfp.__file__\n"
        "assert components.__file__.startswith(sys.argv[1]), components.__file__\n"
        "[catalog.load_component(name) for name in catalog.components()]\n"
        "from carryover_kfp import profile\n"
        "[profile.build_profile(profile.read_document(name), name=name) for name in profile.shipped()]\n"
        "assert 'spot-gpu' in profile.shipped()\n"
        "print([len(compiling.compiled(catalog.load_pipeline(name))) > 1000 for name in catalog.pipelines()])\n"
    )
    command = [sys.executable, "-I", "-c", code, str(tmp_path / "site")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("[True")


def test_the_wheel_plugs_in_the_verbs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        text = archive.read(name).decode()
    for verb in ("compile", "retry", "run", "submit"):
        assert f"{verb} = carryover_kfp.commands:{verb}_command" in text
    for verb in ("schedule", "watch"):
        assert f"{verb} = carryover_kfp.{verb}_command:{verb}_command" in text
