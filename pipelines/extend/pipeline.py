"""Owns the pipeline `extend`: new data for a Model that there is.

preflight -> find_model -> prepare_data -> train_ddp -> evaluate, on the new data and on those the Model had learned
"""
# kfp reads the annotations of a pipeline as values, and its defaults as JSON.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false
# The folders components/ and pipelines/ are carryover_kfp.* once installed; a type checker can't see that.
# pyright: reportMissingImports=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import compiler, dsl

from carryover_kfp.components.evaluate import evaluate
from carryover_kfp.components.find_model import find_model
from carryover_kfp.components.preflight import preflight
from carryover_kfp.components.prepare_data import prepare_data
from carryover_kfp.components.train_ddp import train_ddp
from carryover_kfp.retries import uncached, with_preemption

OUTPUTS = [
    ("model_uri", str),
    ("dataset_uri", str),
    ("run_key", str),
    ("checkpoint_uri", str),
    ("accepted", bool),
    ("reason", str),
]


@dsl.pipeline(name="extend", description="Extend a Model by new data, and say what it gained and forgot.")
def extend(
    source: list[str],
    init_from_uri: str,
    store: str,
    recipe: str = "",
    set: list[str] = [],
    validation_source: list[str] = [],
    test_source: list[str] = [],
    grow_classes: bool = False,
    max_drift: float = 0.0,
    min_gain: str = "",
    max_forgetting: str = "",
    confident: bool = False,
    run_key: str = "",
    takeover: bool = False,
    resume: str = "auto",
    nproc_per_node: int = 0,
    time_limit: float = 0.0,
    launcher: str = "torchrun",
    num_nodes: int = 1,
    job: str = "",
    metric: list[str] = [],
) -> NamedTuple("Outputs", OUTPUTS):
    """Extend a Model by new data, and say what it gained on them and forgot of the old ones.

    Schema, classes, preprocessing and all recipe keys that are not given come from the Model, which stays as it is.

    Args:
        source: URIs of the new data: CSV, TSV, JSON lines or Parquet; files, folders or patterns.
        init_from_uri: The Model to extend: its canonical URI, run:KEY or champion:NAME.
        store: URI that keeps all that lasts, e.g. s3://bucket/carryover. A path of the pod is refused in a cluster.
        recipe: The recipe as YAML text. Empty: every key as the Model has it.
        set: Overrides of single recipe keys, each "key=value", e.g. data.mode=delta.
        validation_source: URIs of data to validate on. Empty: a part of the source.
        test_source: URIs of data to test on. Empty: a part of the source.
        grow_classes: Append classes that the Model does not have, instead of an error.
        max_drift: Fail when a column's PSI against the Model's data is above this, and above chance. 0: no limit.
        min_gain: Least gain over the old Model on the new data, in the first metric's units. Empty: not asked.
        max_forgetting: Most loss against the old Model on its own data. Empty: not asked.
        confident: Whether the 95 % interval must hold both too.
        run_key: Names the run that is to go on with other settings. Empty: by Model, data and recipe.
        takeover: Take the run over from an owner that is still alive.
        resume: auto, never (refuse a run of another owner) or must (refuse to start from zero).
        nproc_per_node: Ranks on the training machine. 0: one for each GPU that env.num_gpus allows.
        time_limit: Seconds of training after which it ends with the best so far. 0: no limit.
        launcher: torchrun (training in its step's pod) or trainjob (Kubeflow Trainer's, which the step follows).
        num_nodes: Nodes of the TrainJob, each a pod.
        job: Settings of the TrainJob as YAML text: image, cpu, memory, gpu, tolerations, queue and others.
        metric: Names of the scores, the main one first. Empty: those usual for the problem type.

    Returns:
        model_uri: Where the new Model lies in the store.
        dataset_uri: Where the new Dataset lies in the store.
        run_key: Names the run, to go on with it later.
        checkpoint_uri: The run's home: its checkpoints and its history.
        accepted: Whether the new Model may take the old one's place.
        reason: Why, in words.
    """
    # Never retried: running it again can't help.
    checked = uncached(preflight(store=store, recipe=recipe, set=set))
    # Looked up once: champion:NAME must not be one Model for the schema and another for the weights.
    old = with_preemption(find_model(model_uri=init_from_uri, store=store).after(checked)).outputs
    prepared = with_preemption(
        prepare_data(
            source=source,
            validation_source=validation_source,
            test_source=test_source,
            # The Model's own.
            label="",
            store=store,
            schema_from=old["model_uri"],
            grow_classes=grow_classes,
            max_drift=max_drift,
        )
    )
    trained = with_preemption(
        train_ddp(
            dataset=prepared.outputs["dataset"],
            init_from_uri=old["model_uri"],
            grow_classes=grow_classes,
            store=store,
            recipe=recipe,
            set=set,
            run_key=run_key,
            # Alone: KFP replaces a placeholder only where it is the whole value.
            owner=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            takeover=takeover,
            resume=resume,
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
    return NamedTuple("Outputs", OUTPUTS)(
        model_uri=trained.outputs["model_uri"],
        dataset_uri=prepared.outputs["dataset_uri"],
        run_key=trained.outputs["run_key"],
        checkpoint_uri=trained.outputs["checkpoint_uri"],
        accepted=judged.outputs["accepted"],
        reason=judged.outputs["reason"],
    )


if __name__ == "__main__":
    compiler.Compiler().compile(extend, package_path=__file__.replace(".py", ".yaml"))
