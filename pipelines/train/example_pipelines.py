"""Owns examples of the pipeline `train` in a pipeline."""
# kfp reads the annotations of a pipeline as values.
# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false

from kfp import dsl

from carryover_kfp.pipelines.train import train


@dsl.pipeline(name="train-example")
def two_seeds(source: list[str], label: str, store: str):
    """The same data trained with two seeds: two runs of one store, which share the Dataset.

    Args:
        source: URIs of the data.
        label: Column that is to be predicted.
        store: URI that keeps all that lasts.
    """
    train(source=source, label=label, store=store, set=["seed=1"])
    train(source=source, label=label, store=store, set=["seed=2"])
