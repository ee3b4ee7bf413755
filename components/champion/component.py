"""Owns the component `champion`: which Model stands for a name now."""
# kfp reads the annotations of a component as values, and its defaults as JSON.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false

from typing import NamedTuple

from kfp import compiler, dsl


@dsl.component(base_image="carryover:v0.1.0", install_kfp_package=False)
def champion(
    name: str,
    store: str,
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
    """Look up the champion of a name. That there is none yet is an answer: every output is empty.

    Args:
        name: Whose champion: a-z, 0-9 and '-'.
        store: URI that keeps all that lasts, e.g. s3://bucket/carryover.

    Returns:
        model_uri: Where the champion lies in the store.
        digest: Its digest, for whoever promotes against it.
        dataset_uri: The Dataset that it was trained on.
        dataset_uris: The same as a list, empty where there is none.
        dataset_digest: Digest of that Dataset's content.
    """
    from carryover.steps.champion import champion as step
    from carryover.steps.component import exit_codes

    with exit_codes():
        result = step(name=name, store=store)
        return (
            result["model_uri"],
            result["digest"],
            result["dataset_uri"],
            result["dataset_uris"],
            result["dataset_digest"],
        )


if __name__ == "__main__":
    compiler.Compiler().compile(champion, package_path=__file__.replace(".py", ".yaml"))
