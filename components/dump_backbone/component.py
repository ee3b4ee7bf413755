"""Owns the component `dump_backbone`: the branches of a trained network as folders that other libraries open."""
# kfp reads the annotations of a component as values.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false

from typing import NamedTuple

from kfp import compiler, dsl


@dsl.component(base_image="carryover:v0.1.0", install_kfp_package=False)
def dump_backbone(
    backbone: dsl.Output[dsl.Model],
    report: dsl.Output[dsl.HTML],
    store: str,
    model: dsl.Input[dsl.Model] = None,
    model_uri: str = "",
) -> NamedTuple("Outputs", [("backbone_uri", str), ("digest", str)]):
    """Write each branch of a trained network as a folder that transformers or timm opens alone, adapters merged.

    Args:
        backbone: The branches' folders and backbone.json. Each was opened again and says what was trained.
        report: One HTML page: what was dumped, how it compares with what was trained, how to open it.
        store: URI that keeps all that lasts, e.g. s3://bucket/carryover.
        model: The Model to take apart; or model_uri.
        model_uri: Its canonical URI instead of the artifact; or a run's home (its URI, with @STEP or @best), run:KEY.

    Returns:
        backbone_uri: Where the Backbone lies in the store.
        digest: Names it; the same weights give the same one.
    """
    import shutil

    from carryover.steps.component import exit_codes, metadata, one_of
    from carryover.steps.dump_backbone import dump_backbone as step

    with exit_codes():
        result = step(
            model=one_of("model", model.path if model else "", model_uri),
            store=store,
            output=backbone.path,
        )
        backbone.metadata.update(metadata(result))
        shutil.copyfile(result["report"], report.path)
        return (result["uri"], result["digest"])


if __name__ == "__main__":
    compiler.Compiler().compile(dump_backbone, package_path=__file__.replace(".py", ".yaml"))
