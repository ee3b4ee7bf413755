"""Owns the compiled form of a pipeline: the YAML that KFP runs, with the image that its steps run in."""

import io
import tempfile
from pathlib import Path
from typing import Any

import yaml


def compiled(pipeline: Any, *, image: str = "") -> str:
    """Return the YAML of a pipeline; with `image`, all steps run in that image instead of the one in the code."""
    from kfp import compiler

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        text = path.read_text(encoding="utf-8")
    return _with_image(text, image) if image else text


def write_compiled(pipeline: Any, path: Path, *, image: str = "") -> None:
    """Write the YAML of a pipeline to a file, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(compiled(pipeline, image=image), encoding="utf-8")


def _with_image(text: str, image: str) -> str:
    """Replace the image of every executor; the comment on top, which KFP writes for people, is kept."""
    comment = "".join(line for line in io.StringIO(text) if line.startswith("#"))
    documents = list(yaml.safe_load_all(text))
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        executor["container"]["image"] = image
    return comment + yaml.safe_dump_all(documents, sort_keys=True)
