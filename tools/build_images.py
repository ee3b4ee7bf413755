"""Owns the build of the images: one context for one Containerfile, built by podman, buildah or docker, then tried.

requirements.lock, images/*.lock --+
this tree -> wheel (same tree, ----+-> context -> build --target ... -> smoke -> carryover:v0.1.0[-cpu|-detection]
            same bytes)            |
Containerfile, install.sh ---------+

  python -m tools.build_images cpu                              the machine's engine, the released Python's image
  python -m tools.build_images cuda --base-image REF --engine buildah --name registry.example/team/carryover
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.lock_rest import entries

ROOT = Path(__file__).resolve().parents[1]
ENGINES = ("podman", "buildah", "docker")
# Target -> how its tag ends: the plain name is the image that components, pipelines and manifests name.
TARGETS = {"cpu": "-cpu", "cuda": "", "detection": "-detection"}
PYTHON = "import torch, torchvision, transformers, timm, peft, s3fs, kubernetes, carryover.train.run"
# What each image must be able to do before anyone gets it: our door, all libraries, and how KFP starts a step.
SMOKE = {
    "cpu": PYTHON,
    "cuda": PYTHON,
    "detection": f"{PYTHON}; import mmcv.ops, mmdet",
}


@dataclass(frozen=True)
class Build:
    """What one build is told.

    Attributes:
        base_image: the image it starts from; empty for the Containerfile's own.
        name: the repository that the images get tags in.
        tag: the tag, which a target's ending follows.
        torch_index: an index of torch for CPUs only; cpu alone.
        mmcv_wheel: a wheel of mmcv built before, for detection.
        secrets: id -> file that single steps of the build may read: ca, pip, uv.
        cache: the machine's own cache of uv, to be used instead of the engine's; not by docker.
        options: further options of the engine's `build`, as they are.
    """

    base_image: str = ""
    name: str = "carryover"
    tag: str = ""
    torch_index: str = ""
    mmcv_wheel: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict)
    cache: str = ""
    options: Sequence[str] = ()

    def image(self, target: str) -> str:
        """The full name of one target's image."""
        return f"{self.name}:{self.tag or version()}{TARGETS[target]}"


def version() -> str:
    """The project's version as tags have it: v0.1.0."""
    return "v" + tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def sha256(*files: Path) -> str:
    """One digest over the content of files, in this order."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def make_wheel(folder: Path) -> Path:
    """Build this project's wheel into `folder`; the same tree gives the same bytes, so its layer is known again."""
    with tempfile.TemporaryDirectory() as made:
        copy = Path(made) / "tree"
        # setup.py would leave a build folder beside the code, and take a file from it that the tree no longer has.
        for name in ("carryover", "carryover_kfp", "components", "pipelines", "profiles"):
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, copy)
        binaries = Path(sys.executable).parent
        # Files of a wheel are dated by this; 1980 is the oldest date that a zip can say.
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800", "VIRTUAL_ENV": str(binaries.parent)}
        command = [str(binaries / "uv"), "build", "--quiet", "--wheel", "--no-build-isolation", "--offline"]
        subprocess.run([*command, "--out-dir", str(folder), str(copy)], check=True, env=environment)
    (wheel,) = folder.glob("carryover-*.whl")
    return wheel


def make_context(folder: Path, *, mmcv_wheel: str = "") -> dict[str, str]:
    """Fill `folder` with all that the Containerfile reads, and return the build arguments that belong to it."""
    for name in ("Containerfile", "install.sh", "compile.py", "requirements.lock"):
        shutil.copy(ROOT / "images" / name, folder)
    pins = entries(str(ROOT / "requirements.lock"))
    detection = entries(str(ROOT / "images" / "requirements-detection.lock"))
    (folder / "mmcv").mkdir()
    write_lock(folder / "uv.lock", pins, "uv")
    # The second is for `carryover watch`; what it needs itself is there already.
    write_lock(folder / "kfp.lock", pins, "kfp", "kfp-server-api")
    write_lock(folder / "mmcv" / "build.lock", pins, "ninja")
    write_lock(folder / "mmcv" / "mmcv.lock", detection, "mmcv")
    shutil.copy(ROOT / "images" / "requirements-detection.lock", folder / "detection.lock")
    if mmcv_wheel:
        shutil.copy(mmcv_wheel, folder / "mmcv")
    (folder / "wheels").mkdir()
    wheel = make_wheel(folder / "wheels")
    return {
        "WHEEL": wheel.name,
        "WHEEL_SHA256": sha256(wheel),
        "TOOLS_SHA256": sha256(folder / "install.sh", folder / "compile.py", folder / "uv.lock"),
    }


def write_lock(path: Path, pins: Mapping[str, str], *names: str) -> None:
    """Write the entries of some packages to a lock of their own."""
    found: list[str] = []
    for name in names:
        entries_of = [text for pin, text in pins.items() if pin.startswith(f"{name}==")]
        if not entries_of:
            raise SystemExit(f"build_images: no lock pins {name}: make lock")
        found += entries_of
    path.write_text("\n".join(found) + "\n")


def build(target: str, engine: str, settings: Build, context: Path, arguments: Mapping[str, str]) -> str:
    """Build one target and return the image's name."""
    image = settings.image(target)
    given = {**arguments, "IMAGE": image}
    if settings.base_image:
        given["BASE_IMAGE"] = settings.base_image
    if settings.torch_index and target == "cpu":
        given["TORCH_INDEX"] = settings.torch_index
    command = [engine, "build", "--target", target, "--tag", image, "--file", str(context / "Containerfile")]
    if engine != "docker":
        # Docker's own form of an image: a step's shell and its exit codes are the same under all engines.
        command += ["--layers", "--format", "docker"]
    for name, path in settings.secrets.items():
        command += ["--secret", f"id={name},src={path}"]
    if settings.cache:
        # Under /run, which no layer keeps.
        command += ["--volume", f"{settings.cache}:/run/uv-cache"]
        given["UV_CACHE_DIR"] = "/run/uv-cache"
    for name, value in sorted(given.items()):
        command += ["--build-arg", f"{name}={value}"]
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    subprocess.run([*command, *settings.options, str(context)], check=True, env=environment)
    return image


def try_out(engine: str, image: str, target: str) -> None:
    """Start what the image must be able to start, as a pod would: any user, read-only, without capabilities."""
    if engine == "buildah":
        print(f"build_images: buildah starts no containers; {image} was not tried", file=sys.stderr)
        return
    locked = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--user=12345:0", "--network=none"]
    run = [engine, "run", "--rm", *locked, "--tmpfs=/tmp"]
    subprocess.run([*run, image, "--version"], check=True)
    subprocess.run([*run, "--entrypoint", "python3", image, "-c", SMOKE[target]], check=True)
    kfp = [*run, "--env=_KFP_RUNTIME=true", "--entrypoint", "python3", image, "-m", "kfp.dsl.executor_main", "--help"]
    subprocess.run(kfp, check=True, stdout=subprocess.DEVNULL)


def find_engine(wanted: str = "") -> str:
    """Return the engine to build with: the wanted one, or the first that is there."""
    for name in [wanted] if wanted else ENGINES:
        if shutil.which(name):
            return name
    raise SystemExit(
        f"build_images: needs {wanted or 'one of ' + ', '.join(ENGINES)}; on Debian: apt-get install podman"
    )


def main(words: Sequence[str] | None = None) -> None:
    """Build what the command line names, and try each image."""
    parser = argparse.ArgumentParser(prog="build_images", description="Build the runtime's images.")
    parser.add_argument("targets", nargs="*", choices=TARGETS, default=["cuda"], metavar="cpu|cuda|detection")
    parser.add_argument("--engine", choices=ENGINES, default="", help="default: the first one found")
    parser.add_argument("--base-image", default="", help="what to build on; default: the Containerfile's")
    parser.add_argument("--name", default="carryover", help="repository of the images, e.g. registry.example/carryover")
    parser.add_argument("--tag", default="", help="default: v and the project's version")
    parser.add_argument("--torch-index", default="", help="index of torch for CPUs only; cpu alone")
    parser.add_argument("--mmcv-wheel", default="", help="a wheel of mmcv, so that detection needn't build it")
    parser.add_argument(
        "--ca", default=os.environ.get("SSL_CERT_FILE", ""), help="certificates; default: SSL_CERT_FILE"
    )
    parser.add_argument("--pip-config", default="", help="pip's settings while building")
    parser.add_argument("--uv-config", default="", help="uv's settings while building")
    parser.add_argument("--share-cache", default="", metavar="DIR", help="uv's cache of this machine; not with docker")
    parser.add_argument("--build-option", action="append", default=[], help="an option of the engine's build, as it is")
    parser.add_argument("--no-try", action="store_true", help="do not start the images that were built")
    given = parser.parse_args(words)
    engine = find_engine(given.engine)
    settings = Build(
        base_image=given.base_image,
        name=given.name,
        tag=given.tag,
        torch_index=given.torch_index,
        mmcv_wheel=given.mmcv_wheel,
        secrets=existing({"ca": given.ca, "pip": given.pip_config, "uv": given.uv_config}),
        cache=str(Path(given.share_cache).absolute()) if given.share_cache else "",
        options=given.build_option,
    )
    check(parser, given.targets, engine, settings)
    try:
        images = build_all(given.targets, engine, settings, tried=not given.no_try)
    except subprocess.CalledProcessError as error:
        words = " ".join(error.cmd[:2])
        raise SystemExit(f"build_images: {words} ended with {error.returncode}; its own lines above say why") from error
    print("\n".join(images))


def existing(files: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets that were given, absolute."""
    for path in files.values():
        if path and not Path(path).is_file():
            raise SystemExit(f"build_images: {path}: no such file")
    return {name: str(Path(path).absolute()) for name, path in files.items() if path}


def check(parser: argparse.ArgumentParser, targets: Sequence[str], engine: str, settings: Build) -> None:
    """End with one line where two options don't go together."""
    if settings.torch_index and "cpu" not in targets:
        parser.error("--torch-index is for the target cpu alone")
    if settings.mmcv_wheel and "detection" not in targets:
        parser.error("--mmcv-wheel is for the target detection alone")
    if settings.cache and engine == "docker":
        parser.error("--share-cache: docker build mounts no folder of this machine; its own cache is used without it")
    existing({"mmcv": settings.mmcv_wheel})


def build_all(targets: Sequence[str], engine: str, settings: Build, *, tried: bool = True) -> list[str]:
    """Build targets from one context and return the images' names."""
    with tempfile.TemporaryDirectory() as made:
        context = Path(made)
        arguments = make_context(context, mmcv_wheel=settings.mmcv_wheel)
        images = [build(target, engine, settings, context, arguments) for target in targets]
    if tried:
        for target, image in zip(targets, images, strict=True):
            try_out(engine, image, target)
    return images


if __name__ == "__main__":
    main()
