"""Owns examples of the component `dump_backbone` in a pipeline."""
# kfp reads the annotations of a pipeline as values.
# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false

from kfp import dsl


@dsl.pipeline(name="dump-backbone-example")
def published(model_uri: str, store: str) -> str:
    """The trained branches of a Model as folders that transformers or timm opens alone.

    Args:
        model_uri: The Model: its URI, run:KEY or champion:NAME.
        store: URI that keeps all that lasts.

    Returns:
        Where the Backbone lies.
    """
    # In the body: at the top of the file the catalog allows the standard library and kfp only.
    from carryover_kfp.components.dump_backbone import dump_backbone

    return dump_backbone(model_uri=model_uri, store=store).set_caching_options(False).outputs["backbone_uri"]


@dsl.pipeline(name="dump-into-transfer-example")
def into_transfer(model_uri: str, dataset_uri: str, store: str):
    """A backbone taken out of one Model, and a new task trained from it.

    Args:
        model_uri: The Model of the old task.
        dataset_uri: The Dataset of the new one.
        store: URI that keeps all that lasts.
    """
    from carryover_kfp.components.dump_backbone import dump_backbone
    from carryover_kfp.components.transfer_train import transfer_train

    dumped = dump_backbone(model_uri=model_uri, store=store).set_caching_options(False)
    transfer_train(backbone=dumped.outputs["backbone"], dataset_uri=dataset_uri, store=store).set_caching_options(False)
