"""Owns the component `preflight`: what a run needs, checked in seconds before anything costs money."""
# kfp reads the annotations of a component as values, and its defaults as JSON.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import compiler, dsl


@dsl.component(base_image="carryover:v0.1.0", install_kfp_package=False)
def preflight(
    store: str,
    recipe: str = "",
    set: list[str] = [],
    source: list[str] = [],
    validation_source: list[str] = [],
    test_source: list[str] = [],
    label: str = "",
) -> NamedTuple("Outputs", [("store_uri", str)]):
    """Check recipe, store, credentials and sources before anything costs money. Never retried.

    Args:
        store: URI that keeps all that lasts, e.g. s3://bucket/carryover. A path of the pod is refused in a cluster.
        recipe: The recipe as YAML text. Empty: every key at its default.
        set: Overrides of single recipe keys, each "key=value".
        source: URIs of the data: files, folders or patterns. Empty: the data is not looked at.
        validation_source: URIs of data to validate on, where it is given apart.
        test_source: URIs of data to test on, where it is given apart.
        label: Column that is to be predicted. Required where there is a source, but for COCO and VOC.

    Returns:
        store_uri: The store in its canonical spelling.
    """
    from carryover.steps.component import exit_codes
    from carryover.steps.preflight import preflight as step

    with exit_codes():
        result = step(
            store=store,
            recipe=recipe,
            overrides=set,
            source=source,
            validation_source=validation_source,
            test_source=test_source,
            label=label,
        )
        return (result["store"],)


if __name__ == "__main__":
    compiler.Compiler().compile(preflight, package_path=__file__.replace(".py", ".yaml"))
