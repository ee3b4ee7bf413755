"""Owns examples of the component `preflight` in a pipeline."""
# kfp reads the annotations of a pipeline as values.
# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false

from kfp import dsl


@dsl.pipeline(name="preflight-example")
def checked_first(source: list[str], label: str, store: str, recipe: str = ""):
    """Nothing is prepared before recipe, store and sources were looked at.

    Args:
        source: URIs of the data.
        label: Column that is to be predicted.
        store: URI that keeps all that lasts.
        recipe: The recipe as YAML text.
    """
    # In the body: at the top of the file the catalog allows the standard library and kfp only.
    from carryover_kfp.components.preflight import preflight
    from carryover_kfp.components.prepare_data import prepare_data

    checked = preflight(store=store, recipe=recipe, source=source, label=label).set_caching_options(False)
    prepare_data(source=source, label=label, store=store).after(checked).set_caching_options(False)
