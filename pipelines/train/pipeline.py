"""Owns the pipeline `train`: check, prepare, train, evaluate.

preflight -> prepare_data -> train_ddp -> evaluate
"""
# kfp reads the annotations of a pipeline as values, and its defaults as JSON.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false
# The folders components/ and pipelines/ are carryover_kfp.* once installed; a type checker can't see that.
# pyright: reportMissingImports=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import compiler, dsl

from carryover_kfp.components.evaluate import evaluate
from carryover_kfp.components.preflight import preflight
from carryover_kfp.components.prepare_data import prepare_data
from carryover_kfp.components.train_ddp import train_ddp
from carryover_kfp.retries import uncached, with_preemption

OUTPUTS = [("model_uri", str), ("dataset_uri", str), ("run_key", str), ("checkpoint_uri", str)]


@dsl.pipeline(name="train", description="Prepare data, train a model that survives preemption, evaluate it.")
def train(
    source: list[str],
    label: str,
    store: str,
    recipe: str = "",
    set: list[str] = [],
    validation_source: list[str] = [],
    test_source: list[str] = [],
    problem_type: str = "",
    column_types: dict[str, str] = {},
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
    """Prepare data, train a model that survives preemption, evaluate it.

    Args:
        source: URIs of the data: CSV, TSV, JSON lines or Parquet; files, folders or patterns.
        label: Column that is to be predicted.
        store: URI that keeps all that lasts, e.g. s3://bucket/carryover. A path of the pod is refused in a cluster.
        recipe: The recipe as YAML text. Empty: every key at its default.
        set: Overrides of single recipe keys, each "key=value".
        validation_source: URIs of data to validate on. Empty: a part of the source.
        test_source: URIs of data to test on. Empty: a part of the source.
        problem_type: binary, multiclass, classification or regression. Empty: by the label's values.
        column_types: Types that are given and not guessed, e.g. {"zip": "categorical"}.
        run_key: Names the run that is to go on with other settings. Empty: by data and recipe.
        takeover: Take the run over from an owner that is still alive.
        resume: auto, never (refuse a run of another owner) or must (refuse to start from zero).
        nproc_per_node: Ranks on the training machine. 0: one for each GPU that env.num_gpus allows.
        time_limit: Seconds of training after which it ends with the best so far. 0: no limit.
        launcher: torchrun (training in its step's pod) or trainjob (Kubeflow Trainer's, which the step follows).
        num_nodes: Nodes of the TrainJob, each a pod.
        job: Settings of the TrainJob as YAML text: image, cpu, memory, gpu, tolerations, queue and others.
        metric: Names of the scores. Empty: those usual for the problem type.

    Returns:
        model_uri: Where the model lies in the store.
        dataset_uri: Where the Dataset lies in the store.
        run_key: Names the run, to go on with it later.
        checkpoint_uri: The run's home: its checkpoints and its history.
    """
    data = {"source": source, "validation_source": validation_source, "test_source": test_source, "label": label}
    # Never retried: running it again can't help.
    checked = uncached(preflight(store=store, recipe=recipe, set=set, **data))
    prepared = with_preemption(
        prepare_data(store=store, problem_type=problem_type, column_types=column_types, **data).after(checked)
    )
    trained = with_preemption(
        train_ddp(
            dataset=prepared.outputs["dataset"],
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
    with_preemption(
        evaluate(model=trained.outputs["model"], dataset=prepared.outputs["dataset"], store=store, metric=metric)
    )
    return NamedTuple("Outputs", OUTPUTS)(
        model_uri=trained.outputs["model_uri"],
        dataset_uri=prepared.outputs["dataset_uri"],
        run_key=trained.outputs["run_key"],
        checkpoint_uri=trained.outputs["checkpoint_uri"],
    )


if __name__ == "__main__":
    compiler.Compiler().compile(train, package_path=__file__.replace(".py", ".yaml"))
