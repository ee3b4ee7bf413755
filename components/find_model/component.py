"""Owns the component `find_model`: what a word for a Model means now, for all steps of a pipeline that come after."""
# kfp reads the annotations of a component as values, and its defaults as JSON.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false

from typing import NamedTuple

from kfp import compiler, dsl


@dsl.component(base_image="carryover:v0.1.0", install_kfp_package=False)
def find_model(
    store: str,
    model: dsl.Input[dsl.Model] = None,
    model_uri: str = "",
) -> NamedTuple(
    "Outputs",
    [
        ("model_uri", str),
        ("digest", str),
        ("dataset_uri", str),
        ("dataset_uris", list),
        ("dataset_digest", str),
    ],
):
    """Look up a Model: champion:NAME and run:KEY may mean another one an hour later, its place in the store does not.

    Args:
        store: URI that keeps all that lasts, e.g. s3://bucket/carryover.
        model: The Model; or model_uri.
        model_uri: Its canonical URI instead of the artifact, run:KEY or champion:NAME.

    Returns:
        model_uri: Where the Model lies.
        digest: Its digest.
        dataset_uri: The Dataset that it was trained on; empty where nothing was.
        dataset_uris: The same as a list, empty where there is none.
        dataset_digest: Digest of that Dataset's content.
    """
    from carryover.steps.component import exit_codes, one_of
    from carryover.steps.find_model import find_model as step

    with exit_codes():
        result = step(model=one_of("model", model.path if model else "", model_uri), store=store)
        return (
            result["model_uri"],
            result["digest"],
            result["dataset_uri"],
            result["dataset_uris"],
            result["dataset_digest"],
        )


if __name__ == "__main__":
    compiler.Compiler().compile(find_model, package_path=__file__.replace(".py", ".yaml"))
