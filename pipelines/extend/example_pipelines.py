"""Owns examples of the pipeline `extend` in a pipeline."""
# kfp reads the annotations of a pipeline as values.
# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false

from kfp import dsl

from carryover_kfp.pipelines.extend import extend
from carryover_kfp.pipelines.train import train


@dsl.pipeline(name="extend-example")
def grown(source: list[str], new_source: list[str], label: str, store: str):
    """A first Model, extended at once with further rows.

    Args:
        source: URIs of the first data.
        new_source: URIs of the further data.
        label: Column that is to be predicted.
        store: URI that keeps all that lasts.
    """
    first = train(source=source, label=label, store=store)
    extend(source=new_source, init_from_uri=first.outputs["model_uri"], store=store)
