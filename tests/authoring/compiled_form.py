"""Holds a compiled pipeline against KFP's own protocol buffers, where an unknown field is an error.

Two parts of them are free-form for the one that has them, and are parsed by what they are for: the deployment of the
pipeline's spec, and each executor's words in the platform's.
"""
# Generated modules make their classes when they are imported, where a type checker can't see them.
# pyright: reportAttributeAccessIssue=false

from typing import Any

import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2


def check_compiled(text: str) -> None:
    """Raise ValueError for a compiled pipeline that KFP does not know all of."""
    spec, *more = yaml.safe_load_all(text)
    assert len(more) <= 1
    _parse(spec, pipeline_spec_pb2.PipelineSpec(), "pipeline spec")
    deployment = spec["deploymentSpec"]
    _parse(deployment, pipeline_spec_pb2.PipelineDeploymentConfig(), "deploymentSpec")
    for platform in more:
        _parse(platform, pipeline_spec_pb2.PlatformSpec(), "platform spec")
        executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        for name, words in executors.items():
            if name not in deployment["executors"]:
                raise ValueError(f"platform spec: {name} is no executor")
            _parse(words, kubernetes_executor_config_pb2.KubernetesExecutorConfig(), f"platform spec: {name}")


def _parse(value: Any, message: Any, what: str) -> None:
    try:
        json_format.ParseDict(value, message, ignore_unknown_fields=False)
    except json_format.ParseError as error:
        raise ValueError(f"{what}: {error}") from error
