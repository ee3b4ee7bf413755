"""Owns examples of the component `prepare_data` in a pipeline."""
# kfp reads the annotations of a pipeline as values.
# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false

from kfp import dsl


@dsl.pipeline(name="prepare-data-example")
def reviews(source: list[str], store: str):
    """Tables into a Dataset, with one type given and all others guessed.

    Args:
        source: URIs of tables with the columns "text" and "rating".
        store: URI that keeps the Dataset.
    """
    # In the body: at the top of the file the catalog allows the standard library and kfp only.
    from carryover_kfp.components.prepare_data import prepare_data

    prepare_data(source=source, label="rating", store=store, column_types={"text": "text"}).set_caching_options(False)


@dsl.pipeline(name="prepare-data-follow-example")
def follow(source: list[str], store: str, model_uri: str):
    """New rows as a Dataset with the types and classes of a Model, new classes behind its own.

    Args:
        source: URIs of the new tables.
        store: URI that keeps the Dataset.
        model_uri: The Model that is to be extended with it.
    """
    from carryover_kfp.components.prepare_data import prepare_data

    prepare_data(source=source, label="", store=store, schema_from=model_uri, grow_classes=True).set_caching_options(
        False
    )
