"""Owns the component `prepare_data`: tables of any store become a typed, split, digested Dataset."""
# kfp reads the annotations of a component as values, and its defaults as JSON.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import compiler, dsl


@dsl.component(base_image="carryover:v0.1.0", install_kfp_package=False)
def prepare_data(
    dataset: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    source: list[str],
    label: str,
    store: str,
    validation_source: list[str] = [],
    test_source: list[str] = [],
    problem_type: str = "",
    column_types: dict[str, str] = {},
    train_fraction: float = 0.8,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    schema_from: str = "",
    grow_classes: bool = False,
    max_drift: float = 0.0,
    image_root: str = "",
    ignore_label: int = -1,
) -> NamedTuple("Outputs", [("dataset_uri", str), ("dataset_digest", str), ("changed", bool)]):
    """Turn tables into a Dataset: typed columns, splits that never move a row, a digest of the content.

    The same content gives the same Dataset, which is not written twice; new files behind an unchanged URI are seen.

    Args:
        dataset: The Dataset's card (dataset.json, and dataset.html for people); the rows stay in the store.
        report: The data card as one HTML page: columns, distributions, splits, drift, what is worth a look.
        source: URIs of the data: CSV, TSV, JSON lines or Parquet; files, folders or patterns. COCO's instances, VOC.
        label: Column that is to be predicted. Empty with schema_from: the label there; of COCO and VOC: rois.
        store: URI that keeps all that lasts, e.g. s3://bucket/carryover.
        validation_source: URIs of data to validate on. Empty: a part of the source.
        test_source: URIs of data to test on. Empty: a part of the source.
        problem_type: binary, multiclass, classification, regression or semantic_segmentation. Empty: by the data.
        column_types: Types that are given and not guessed, e.g. {"zip": "categorical"}.
        train_fraction: Share of the rows to train on.
        validation_fraction: Share of the rows to validate on.
        test_fraction: Share of the rows to test on.
        schema_from: URI of a Model or Dataset, or run:KEY, whose types, problem and classes the data follow.
        grow_classes: Append classes that schema_from does not have, instead of an error.
        max_drift: Fail when a column's PSI against schema_from is above this, and above chance. 0: no limit.
        image_root: URI of the folder of the pictures that COCO or VOC name. Empty: beside the annotations.
        ignore_label: Id of mask pixels that are of no class; 255 always is. -1: only that.

    Returns:
        dataset_uri: Where the Dataset lies in the store.
        dataset_digest: Digest of its content.
        changed: Whether this content is new to the store.
    """
    import shutil

    from carryover.steps.component import exit_codes, metadata
    from carryover.steps.prepare_data import prepare_data as step

    with exit_codes():
        result = step(
            source=source,
            label=label,
            store=store,
            output=dataset.path,
            validation_source=validation_source,
            test_source=test_source,
            problem_type=problem_type,
            column_types=column_types,
            train_fraction=train_fraction,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            schema_from=schema_from,
            # A pipeline's first run hands on an empty schema_from: there is nothing to grow, or to drift from.
            grow_classes=grow_classes and bool(schema_from),
            max_drift=(max_drift or None) if schema_from else None,
            image_root=image_root,
            ignore_label=ignore_label if ignore_label >= 0 else None,
        )
        dataset.metadata.update(metadata(result))
        shutil.copyfile(result["report"], report.path)
        return result["uri"], result["digest"], result["changed"]


if __name__ == "__main__":
    compiler.Compiler().compile(prepare_data, package_path=__file__.replace(".py", ".yaml"))
