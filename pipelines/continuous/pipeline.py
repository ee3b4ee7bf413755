"""Owns the pipeline `continuous`: what a schedule starts, day after day.

preflight -> champion -> prepare_data -> are there new data?   yes: train_ddp -> evaluate -> promote, or keep
                                                               no:  the champion stays
The first run finds no champion and trains from scratch.
"""
# kfp reads the annotations of a pipeline as values, and its defaults as JSON.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false
# The folders components/ and pipelines/ are carryover_kfp.* once installed; a type checker can't see that.
# pyright: reportMissingImports=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import compiler, dsl

from carryover_kfp.components.champion import champion
from carryover_kfp.components.evaluate import evaluate
from carryover_kfp.components.preflight import preflight
from carryover_kfp.components.prepare_data import prepare_data
from carryover_kfp.components.promote import promote
from carryover_kfp.components.train_ddp import train_ddp
from carryover_kfp.retries import uncached, with_preemption

OUTPUTS = [("champion_uri", str), ("dataset_uri", str)]


@dsl.pipeline(
    name="continuous", description="New data extend the champion; the better one of both is the next champion."
)
def continuous(
    name: str,
    source: list[str],
    label: str,
    store: str,
    recipe: str = "",
    set: list[str] = [],
    extend_set: list[str] = [],
    validation_source: list[str] = [],
    test_source: list[str] = [],
    problem_type: str = "",
    column_types: dict[str, str] = {},
    grow_classes: bool = False,
    max_drift: float = 0.0,
    min_gain: str = "0",
    max_forgetting: str = "",
    confident: bool = False,
    nproc_per_node: int = 0,
    time_limit: float = 0.0,
    launcher: str = "torchrun",
    num_nodes: int = 1,
    job: str = "",
    metric: list[str] = [],
) -> NamedTuple("Outputs", OUTPUTS):
    """New data extend the champion; the better one of both is the next champion.

    The first run trains from scratch. A run without new data ends at once, and green. Of two runs that overlap, the
    later one keeps the champion that the earlier one made.

    Args:
        name: Whose champion: a-z, 0-9 and '-'.
        source: URIs of the data: CSV, TSV, JSON lines or Parquet; files, folders or patterns. New files are seen.
        label: Column that is to be predicted.
        store: URI that keeps all that lasts, e.g. s3://bucket/carryover. A path of the pod is refused in a cluster.
        recipe: The recipe as YAML text. Empty: every key at its default, later as the champion has it.
        set: Overrides of single recipe keys, each "key=value".
        extend_set: Overrides where there is a champion to extend, e.g. data.mode=delta or remedy keys.
        validation_source: URIs of data to validate on. Empty: a part of the source.
        test_source: URIs of data to test on. Empty: a part of the source.
        problem_type: binary, multiclass, classification or regression. Empty: by the label's values. First run only.
        column_types: Types that are given and not guessed, e.g. {"zip": "categorical"}. First run only.
        grow_classes: Append classes that the champion does not have, instead of an error.
        max_drift: Fail when a column's PSI against the champion's data is above this, and above chance. 0: no limit.
        min_gain: Least gain over the champion on the new data, in the first metric's units. Empty: not asked.
        max_forgetting: Most loss against the champion on its own data. Empty: not asked.
        confident: Whether the 95 % interval must hold both too.
        nproc_per_node: Ranks on the training machine. 0: one for each GPU that env.num_gpus allows.
        time_limit: Seconds of training after which it ends with the best so far. 0: no limit.
        launcher: torchrun (training in its step's pod) or trainjob (Kubeflow Trainer's, which the step follows).
        num_nodes: Nodes of the TrainJob, each a pod.
        job: Settings of the TrainJob as YAML text: image, cpu, memory, gpu, tolerations, queue and others.
        metric: Names of the scores, the main one first. Empty: those usual for the problem type.

    Returns:
        champion_uri: Where the champion lies in the store, the new one or the old one.
        dataset_uri: Where the Dataset lies in the store.
    """
    data = {"source": source, "validation_source": validation_source, "test_source": test_source, "label": label}
    # Never retried: running it again can't help.
    checked = uncached(preflight(store=store, recipe=recipe, set=set, **data))
    old = with_preemption(champion(name=name, store=store).after(checked)).outputs
    prepared = with_preemption(
        prepare_data(
            store=store,
            problem_type=problem_type,
            column_types=column_types,
            schema_from=old["model_uri"],
            grow_classes=grow_classes,
            max_drift=max_drift,
            **data,
        )
    )
    with dsl.If(prepared.outputs["dataset_digest"] != old["dataset_digest"], name="new-data"):
        trained = with_preemption(
            train_ddp(
                dataset=prepared.outputs["dataset"],
                # Empty in the first run: from scratch.
                init_from_uri=old["model_uri"],
                grow_classes=grow_classes,
                store=store,
                recipe=recipe,
                set=set,
                extend_set=extend_set,
                # Alone: KFP replaces a placeholder only where it is the whole value.
                owner=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
                nproc_per_node=nproc_per_node,
                time_limit=time_limit,
                launcher=launcher,
                num_nodes=num_nodes,
                job=job,
            )
        )
        judged = with_preemption(
            evaluate(
                model=trained.outputs["model"],
                dataset=prepared.outputs["dataset"],
                more_dataset_uris=old["dataset_uris"],
                baseline_uri=old["model_uri"],
                min_gain=min_gain,
                max_forgetting=max_forgetting,
                confident=confident,
                store=store,
                metric=metric,
            )
        )
        decided = with_preemption(
            promote(
                name=name,
                model_uri=trained.outputs["model_uri"],
                accepted=judged.outputs["accepted"],
                reason=judged.outputs["reason"],
                against=old["digest"],
                owner=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
                store=store,
            )
        )
    with dsl.Else(name="nothing-new"):
        kept = with_preemption(champion(name=name, store=store))
    return NamedTuple("Outputs", OUTPUTS)(
        champion_uri=dsl.OneOf(decided.outputs["champion_uri"], kept.outputs["model_uri"]),
        dataset_uri=prepared.outputs["dataset_uri"],
    )


if __name__ == "__main__":
    compiler.Compiler().compile(continuous, package_path=__file__.replace(".py", ".yaml"))
