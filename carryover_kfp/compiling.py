"""Owns the compiled form of a pipeline: the YAML that KFP runs, its image, and what a profile says of its pods.

pipeline --under a profile--> its function, run once more: pods, and other defaults of launcher, num_nodes, job
         --compiled--> YAML --image--> YAML
"""

import io
import tempfile
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from carryover.ground import config
from carryover.ground.errors import WrongInput
from carryover.launch.job import JobSettings
from carryover_kfp import catalog
from carryover_kfp.pod import check_tolerations
from carryover_kfp.profile import TRAINING, TRAINJOB, Profile, check_launcher


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


def under(pipeline: Any, profile: Profile, *, image: str = "") -> Any:
    """Return the pipeline as a profile wants it: its pods, and its defaults of launcher, num_nodes and job.

    Args:
        pipeline: a KFP graph component, which stays as it is.
        profile: see `Profile`.
        image: the image of all steps, which a TrainJob then uses too; empty for the one in the code.
    """
    from kfp import dsl

    from carryover_kfp.retries import traced_under

    job, secret = dict(profile.job), profile.pod(TRAINING[0]).secret
    if profile.launcher == TRAINJOB:
        job = _with_job_image(job, image)
        # The store is the same one.
        job = job if secret == JobSettings().secret else {"secret": secret, **job}
    defaults = {"launcher": profile.launcher, "num_nodes": profile.num_nodes, "job": _text(job)}
    function = _with_defaults(pipeline.pipeline_func, defaults)
    with traced_under(profile):
        return dsl.pipeline(name=pipeline.name, description=pipeline.description)(function)


def complete_job(pipeline: Any, values: Mapping[str, Any], *, image: str = "") -> dict[str, Any]:
    """Return a pipeline's arguments with the settings of its TrainJob checked, and its image in them.

    Raises:
        WrongInput: when launcher, num_nodes and job don't fit together, or a key or value of the job is not possible.
    """
    inputs = pipeline.component_spec.inputs or {}
    if "job" not in inputs:
        return dict(values)
    defaults = {name: inputs[name].default for name in ("launcher", "num_nodes", "job")}
    launcher, nodes, text = (values.get(name, default) for name, default in defaults.items())
    job = read_job(text)
    check_launcher(launcher, nodes, job)
    if launcher == TRAINJOB:
        job = _with_job_image(job, image)
    found = {**values, "job": _text(job)}
    return found if found["job"] != defaults["job"] else dict(values)


def read_job(given: str) -> dict[str, Any]:
    """Return the checked settings of a TrainJob as plain values, from the path of a YAML file or YAML text.

    Raises:
        WrongInput: for anything but a mapping, an unknown key, or a value that is not possible.
    """
    job = dict(config.read_mapping(given, what="job"))
    config.build(JobSettings, job, path="job")
    check_tolerations(job.get("tolerations", ()), "job.tolerations")
    return job


def _with_job_image(job: dict[str, Any], image: str) -> dict[str, Any]:
    container = catalog.load_component(TRAINING[0]).component_spec.implementation.container
    return job if job.get("image") else {**job, "image": image or container.image}


def _text(job: Mapping[str, Any]) -> str:
    # One line: KFP writes defaults into the comment on top of its YAML as they are, and a second line is no comment.
    return yaml.safe_dump(dict(job), sort_keys=True, default_flow_style=True, width=1_000_000).strip() if job else ""


def _with_defaults(function: Callable[..., Any], defaults: Mapping[str, Any]) -> Callable[..., Any]:
    """Return a pipeline's function with other defaults; kfp reads them from the function itself."""
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    old = function.__defaults__ or ()
    first = len(names) - len(old)
    if missing := sorted(set(defaults) - set(names[first:])):
        raise WrongInput(f"pipeline '{function.__name__}' has no parameter {', '.join(missing)} with a default")
    new = tuple(defaults.get(name, value) for name, value in zip(names[first:], old, strict=True))
    copy = types.FunctionType(code, function.__globals__, function.__name__, new, function.__closure__)
    copy.__annotations__, copy.__doc__ = function.__annotations__, function.__doc__
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    return copy


def _with_image(text: str, image: str) -> str:
    """Replace the image of every executor; the comment on top, which KFP writes for people, is kept."""
    comment = "".join(line for line in io.StringIO(text) if line.startswith("#"))
    documents = list(yaml.safe_load_all(text))
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        executor["container"]["image"] = image
    return comment + yaml.safe_dump_all(documents, sort_keys=True)
