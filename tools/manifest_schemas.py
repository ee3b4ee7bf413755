"""Owns the strict check of one manifest against its published schema: a field that the schema lacks is an error.

    argoproj.io               argo-workflows.schema.json
    trainer.kubeflow.org      trainer.kubeflow.org_*.yaml; the JobSet in a runtime also jobset.x-k8s.io_jobsets.yaml
    all others                Kubernetes' own, from the package kubernetes-validate

The published schemas allow fields they don't know, as plain JSON Schema does; here they are closed first. What a CRD
says in CEL (x-kubernetes-validations) is not evaluated.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

# Megabytes of YAML: libyaml reads them in a tenth of the time.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ARGO = "argo-workflows.schema.json"
JOBSETS = "jobset.x-k8s.io_jobsets.yaml"
_ARGO_KIND = "io.argoproj.workflow.v1alpha1."
_METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
# Argo's file has only what its own types need; a JobSet has a whole pod.
_POD_OF_A_JOBSET = ("spec", "replicatedJobs", "items", "template", "spec", "template", "spec")
_EITHER = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"

Manifest = Mapping[str, Any]


def problems(manifest: Manifest, schemas: Path) -> list[str]:
    """Return what is wrong with a manifest, a line each; none where it is as its schema has it."""
    return [f"{named(manifest)}: {line}" for line in _of_any(manifest, schemas)]


def named(manifest: Manifest) -> str:
    """Return a manifest's kind and name, for a person."""
    return f"{manifest.get('kind', 'no kind')}/{manifest.get('metadata', {}).get('name', 'no name')}"


def pod_patch_problems(patch: Manifest, schemas: Path) -> list[str]:
    """Return what is wrong with a part of a pod's spec, as Argo's podSpecPatch has it."""
    pod = _closed_crd(schemas / JOBSETS, schemas)
    for name in _POD_OF_A_JOBSET:
        pod = pod["items"] if name == "items" else pod["properties"][name]
    return _lines({**pod, "required": []}, patch)


def _of_any(manifest: Manifest, schemas: Path) -> list[str]:
    group = str(manifest.get("apiVersion", "")).rpartition("/")[0]
    if group == "argoproj.io":
        return _of_argo(manifest, schemas)
    if group == "trainer.kubeflow.org":
        return _of_trainer(manifest, schemas)
    if group.count(".") and not group.endswith(".k8s.io"):
        return [f"apiVersion: there is no schema for {manifest['apiVersion']}"]
    try:
        kubernetes_validate.validate(dict(manifest), kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path)) or 'root'}: {error.message}"]
    except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError) as error:
        return [str(error)]
    return []


def _of_argo(manifest: Manifest, schemas: Path) -> list[str]:
    document = _closed_argo(schemas)
    name = f"{_ARGO_KIND}{manifest.get('kind', '')}"
    if name not in document["definitions"]:
        return [f"kind: Argo has no {manifest.get('kind')}"]
    return _lines({"$ref": f"#/definitions/{name}", "definitions": document["definitions"]}, manifest)


def _of_trainer(manifest: Manifest, schemas: Path) -> list[str]:
    path = schemas / f"trainer.kubeflow.org_{str(manifest.get('kind', '')).lower()}s.yaml"
    if not path.is_file():
        return [f"kind: Trainer has no {manifest.get('kind')}"]
    found = _lines(_closed_crd(path, schemas), manifest)
    jobset = manifest.get("spec", {}).get("template")
    if not found and jobset:
        whole = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": {"name": "jobset"}, **jobset}
        found = _lines(_closed_crd(schemas / JOBSETS, schemas), whole)
    return found


def _lines(schema: Mapping[str, Any], value: Any) -> list[str]:
    errors = sorted(jsonschema.Draft7Validator(schema).iter_errors(value), key=lambda error: list(map(str, error.path)))
    return [f"{'.'.join(map(str, error.path)) or 'root'}: {_short(error.message)}" for error in errors]


def _short(message: str) -> str:
    return message if len(message) < 300 else f"{message[:140]} ... {message[-140:]}"


@functools.cache
def _closed_argo(schemas: Path) -> dict[str, Any]:
    document = json.loads((schemas / ARGO).read_text())
    document["definitions"][_EITHER] = {"type": ["string", "integer"]}
    document["definitions"][_QUANTITY] = {"type": ["string", "number"]}
    for part in _objects(document):
        _close(part)
    return document


@functools.cache
def _closed_crd(path: Path, schemas: Path) -> dict[str, Any]:
    """Return the closed schema of the newest version of a custom resource."""
    versions = yaml.load(path.read_text(), Loader=LOADER)["spec"]["versions"]
    schema = next(version for version in versions if version["storage"])["schema"]["openAPIV3Schema"]
    for part in _objects(schema):
        _close(part)
        if part.get("x-kubernetes-int-or-string"):
            part.pop("type", None)
    # A CRD says nothing of metadata; Argo's file has Kubernetes' own.
    schema["properties"]["metadata"] = {"$ref": f"#/definitions/{_METADATA}"}
    schema["definitions"] = _closed_argo(schemas)["definitions"]
    return schema


def _close(part: dict[str, Any]) -> None:
    if isinstance(part.get("properties"), dict) and not part.get("x-kubernetes-preserve-unknown-fields"):
        part.setdefault("additionalProperties", False)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in list(value.values()):
            yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)
