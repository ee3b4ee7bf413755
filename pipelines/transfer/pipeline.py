"""Owns the pipeline `transfer`: a new task that starts from what a Model learned.

preflight -> find_model -> dump_backbone ┐
          -> prepare_data ---------------+-> transfer_train -> evaluate, on the new task
             find_model -> evaluate, the old Model on its own task
"""
# kfp reads the annotations of a pipeline as values, and its defaults as JSON.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false
# The folders components/ and pipelines/ are carryover_kfp.* once installed; a type checker can't see that.
# pyright: reportMissingImports=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import compiler, dsl

from carryover_kfp.components.dump_backbone import dump_backbone
from carryover_kfp.components.evaluate import evaluate
from carryover_kfp.components.find_model import find_model
from carryover_kfp.components.preflight import preflight
from carryover_kfp.components.prepare_data import prepare_data
from carryover_kfp.components.transfer_train import transfer_train
from carryover_kfp.retries import uncached, with_preemption

OUTPUTS = [
    ("model_uri", str),
    ("backbone_uri", str),
    ("dataset_uri", str),
    ("run_key", str),
    ("checkpoint_uri", str),
]


@dsl.pipeline(
    name="transfer", description="Start a new task from what a Model learned, and score both, each on its task."
)
def transfer(
    source: list[str],
    label: str,
    model_uri: str,
    store: str,
    recipe: str = "",
    set: list[str] = [],
    strict: bool = False,
    validation_source: list[str] = [],
    test_source: list[str] = [],
    problem_type: str = "",
    column_types: dict[str, str] = {},
    old_task: bool = True,
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
    """Start a new task from what a Model learned, and score both Models, each on its own task.

    The new Model has another label, other classes and another head, so that no data fit both. The old one stays as it
    is: its scores are there to compare with, and it can't have forgotten anything.

    Args:
        source: URIs of the data of the new task: files, folders or patterns.
        label: Column that is to be predicted.
        model_uri: The Model to start from: its canonical URI, run:KEY or champion:NAME; yesterday's will do.
        store: URI that keeps all that lasts, e.g. s3://bucket/carryover. A path of the pod is refused in a cluster.
        recipe: The recipe as YAML text. Empty: every key at its default.
        set: Overrides of single recipe keys, each "key=value".
        strict: Any gap between the Model's weights and the new network is an error, but for heads.
        validation_source: URIs of data to validate on. Empty: a part of the source.
        test_source: URIs of data to test on. Empty: a part of the source.
        problem_type: binary, multiclass, classification or regression. Empty: by the label's values.
        column_types: Types that are given and not guessed, e.g. {"zip": "categorical"}.
        old_task: Score the old Model on the Dataset it was trained on, which must still be there.
        run_key: Names the run that is to go on with other settings. Empty: by data, recipe and the weights' content.
        takeover: Take the run over from an owner that is still alive.
        resume: auto, never (refuse a run of another owner) or must (refuse to start from zero).
        nproc_per_node: Ranks on the training machine. 0: one for each GPU that env.num_gpus allows.
        time_limit: Seconds of training after which it ends with the best so far. 0: no limit.
        launcher: torchrun (training in its step's pod) or trainjob (Kubeflow Trainer's, which the step follows).
        num_nodes: Nodes of the TrainJob, each a pod.
        job: Settings of the TrainJob as YAML text: image, cpu, memory, gpu, tolerations, queue and others.
        metric: Names of the new task's scores. Empty: those usual for the problem type.

    Returns:
        model_uri: Where the new Model lies in the store.
        backbone_uri: Where the Backbone lies in the store, for further tasks.
        dataset_uri: Where the new Dataset lies in the store.
        run_key: Names the run, to go on with it later.
        checkpoint_uri: The run's home: its checkpoints and its history.
    """
    data = {"source": source, "validation_source": validation_source, "test_source": test_source, "label": label}
    # Never retried: running it again can't help.
    checked = uncached(preflight(store=store, recipe=recipe, set=set, **data))
    # Looked up once: champion:NAME must not be one Model for the weights and another for the comparison.
    old = with_preemption(find_model(model_uri=model_uri, store=store).after(checked)).outputs
    dumped = with_preemption(dump_backbone(model_uri=old["model_uri"], store=store))
    prepared = with_preemption(
        prepare_data(store=store, problem_type=problem_type, column_types=column_types, **data).after(checked)
    )
    trained = with_preemption(
        transfer_train(
            backbone=dumped.outputs["backbone"],
            dataset=prepared.outputs["dataset"],
            strict=strict,
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
    with dsl.If(old_task == True, name="old-task"):  # noqa: E712 - kfp overloads ==
        with_preemption(evaluate(model_uri=old["model_uri"], dataset_uri=old["dataset_uri"], store=store))
    return NamedTuple("Outputs", OUTPUTS)(
        model_uri=trained.outputs["model_uri"],
        backbone_uri=dumped.outputs["backbone_uri"],
        dataset_uri=prepared.outputs["dataset_uri"],
        run_key=trained.outputs["run_key"],
        checkpoint_uri=trained.outputs["checkpoint_uri"],
    )


if __name__ == "__main__":
    compiler.Compiler().compile(transfer, package_path=__file__.replace(".py", ".yaml"))
