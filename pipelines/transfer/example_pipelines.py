"""Owns examples of the pipeline `transfer` in a pipeline."""
# kfp reads the annotations of a pipeline as values.
# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false

from kfp import dsl

from carryover_kfp.pipelines.train import train
from carryover_kfp.pipelines.transfer import transfer


@dsl.pipeline(name="transfer-example")
def next_task(source: list[str], label: str, new_source: list[str], new_label: str, store: str):
    """A Model of one task, and another task that starts from its backbone.

    Args:
        source: URIs of the first task's data.
        label: Column that the first task predicts.
        new_source: URIs of the second task's data.
        new_label: Column that the second task predicts.
        store: URI that keeps all that lasts.
    """
    first = train(source=source, label=label, store=store)
    transfer(model_uri=first.outputs["model_uri"], source=new_source, label=new_label, store=store)
