"""Owns examples of the pipeline `continuous` in a pipeline."""
# kfp reads the annotations of a pipeline as values.
# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false

from kfp import dsl

from carryover_kfp.pipelines.continuous import continuous


@dsl.pipeline(name="continuous-example")
def every_night(source: list[str], label: str, store: str):
    """New rows behind the same URIs: the champion is extended, measured, and replaced where the new Model is better.

    Args:
        source: URIs of the data, the same each night.
        label: Column that is to be predicted.
        store: URI that keeps all that lasts.
    """
    continuous(source=source, label=label, store=store, name="reviews")
