"""What an image is made of: its locks, its context, the script's own words. Nothing is built here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import build_images
from tools.lock_rest import entries

ROOT = Path(__file__).resolve().parents[2]
CONTAINERFILE = (ROOT / "images" / "Containerfile").read_text()


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-detection.lock"])
def test_an_image_has_the_versions_and_hashes_that_tests_ran_with(name):
    tested = entries(str(ROOT / "requirements.lock")) | entries(str(ROOT / "requirements-detection.lock"))
    found = entries(str(ROOT / "images" / name))
    # A marker may be narrower here: without development's tools fewer packages ask for cffi, and not on every Python.
    hashes = {_pinned(pin): _hashes(text) for pin, text in tested.items()}
    other = {pin for pin, text in found.items() if hashes.get(_pinned(pin)) != _hashes(text)}
    assert not other, "write the images' locks anew: images/lock.sh .venv"
    names = {pin.partition("==")[0] for pin in found}
    assert not names & {"pytest", "ruff", "uv", "moto", "kfp", "basedpyright"}, "no tools of development"


def _pinned(pin: str) -> str:
    return pin.partition(" ;")[0]


def _hashes(entry: str) -> set[str]:
    return set(re.findall(r"sha256:[0-9a-f]{64}", entry))


def test_an_image_has_all_that_the_runtime_asks_for():
    locked = {pin.partition("==")[0] for pin in entries(str(ROOT / "images" / "requirements.lock"))}
    assert {"torch", "torchvision", "transformers", "timm", "peft", "s3fs", "kubernetes", "scikit-learn"} <= locked
    detection = {pin.partition("==")[0] for pin in entries(str(ROOT / "images" / "requirements-detection.lock"))}
    assert {"mmcv", "mmdet", "mmengine", "opencv-python-headless", "pycocotools"} <= detection
    assert not locked & detection


def test_the_same_tree_gives_the_same_context(tmp_path):
    """Else every build would make a new layer of the project, and engines would fetch it anew."""
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found.append(build_images.make_context(tmp_path / name))
    assert found[0] == found[1]
    context = {path.relative_to(tmp_path / "one").as_posix() for path in (tmp_path / "one").rglob("*")}
    assert f"wheels/{found[0]['WHEEL']}" in context
    assert (tmp_path / "one" / "kfp.lock").read_text().startswith("kfp==2.17.")
    for name in ("uv.lock", "mmcv/mmcv.lock", "mmcv/build.lock"):
        assert len(entries(str(tmp_path / "one" / name))) == 1


def test_what_a_pod_relies_on_stands_in_the_containerfile():
    assert 'ENTRYPOINT ["carryover"]' in CONTAINERFILE, "exec form, so that a signal reaches our process"
    for target in build_images.TARGETS:
        assert f" AS {target}\n" in CONTAINERFILE
    assert CONTAINERFILE.count("\nUSER 10001\n") == 2, "each of the two last stages ends as the user of the contract"
    assert "http" not in CONTAINERFILE, "where packages come from is the building machine's business"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gpu"], "invalid choice: 'gpu'"),
        (["cuda", "--torch-index", "file:///wheels"], "--torch-index is for the target cpu alone"),
        (["cpu", "--mmcv-wheel", "m.whl"], "--mmcv-wheel is for the target detection alone"),
        (["detection", "--mmcv-wheel", "absent.whl"], "absent.whl: no such file"),
        (["cpu", "--ca", "absent.pem"], "absent.pem: no such file"),
        (["cpu", "--engine", "docker", "--share-cache", "cache"], "docker"),
    ],
)
def test_wrong_words_are_one_clear_line(words, said):
    command = [sys.executable, "-m", "tools.build_images", *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in (1, 2)
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
