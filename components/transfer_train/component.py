"""Owns the component `transfer_train`: a new task that starts from a Backbone or any other weights."""
# kfp reads the annotations of a component as values, and its defaults as JSON.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import compiler, dsl


@dsl.component(base_image="carryover:v0.1.0", install_kfp_package=False)
def transfer_train(
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    store: str,
    backbone: dsl.Input[dsl.Model] = None,
    backbone_uri: str = "",
    dataset: dsl.Input[dsl.Dataset] = None,
    dataset_uri: str = "",
    strict: bool = False,
    recipe: str = "",
    set: list[str] = [],
    run_key: str = "",
    owner: str = "",
    takeover: bool = False,
    resume: str = "auto",
    nproc_per_node: int = 0,
    time_limit: float = 0.0,
    launcher: str = "torchrun",
    num_nodes: int = 1,
    job: str = "",
) -> NamedTuple(
    "Outputs",
    [("model_uri", str), ("run_key", str), ("checkpoint_uri", str), ("optimizer_steps", int), ("lost_steps", int)],
):
    """Train a new task from other weights over one or more ranks; started again, it goes on from the last commit.

    Args:
        model: The trained model, with all that inference needs; its card says which weights were taken.
        metrics: Scores of the chosen weights on the validation rows; steps, speed, attempts, lost steps.
        report: One HTML page: curves over all attempts, what saves cost, what was lost, lineage.
        store: URI that keeps all that lasts, checkpoints too, e.g. s3://bucket/carryover.
        backbone: The Backbone or Model that the new task starts from; or backbone_uri.
        backbone_uri: Its canonical URI instead of the artifact, run:KEY, champion:NAME, any checkpoint, or a hub name.
        dataset: The Dataset to train on; or dataset_uri.
        dataset_uri: Its canonical URI instead of the artifact.
        strict: Any gap is an error: new tensors (but heads), resized or ignored ones.
        recipe: The recipe as YAML text. Empty: every key at its default.
        set: Overrides of single recipe keys, each "key=value".
        run_key: Names the run that is to go on with other settings. Empty: by data, recipe and the weights' content.
        owner: Who asks: pass dsl.PIPELINE_JOB_ID_PLACEHOLDER alone. Retries of one owner follow each other at once.
        takeover: Take the run over from an owner that is still alive.
        resume: auto, never (refuse a run of another owner) or must (refuse to start from zero).
        nproc_per_node: Ranks on this machine. 0: one for each GPU that env.num_gpus allows, one without any.
        time_limit: Seconds of training after which it ends with the best so far. 0: no limit.
        launcher: torchrun (in this step's pod) or trainjob (Kubeflow Trainer's, which this step asks for and follows).
        num_nodes: Nodes of the TrainJob, each a pod.
        job: Settings of the TrainJob as YAML text: image, cpu, memory, gpu, tolerations, queue and others.

    Returns:
        model_uri: Where the model lies in the store.
        run_key: Names the run, to go on with it later.
        checkpoint_uri: The run's home: its checkpoints and its history.
        optimizer_steps: Optimizer steps of the run.
        lost_steps: Optimizer steps that had to be done again after stops.
    """
    import shutil

    from carryover.steps.component import exit_codes, metadata, one_of, training_metrics
    from carryover.steps.transfer_train import transfer_train as step

    with exit_codes():
        result = step(
            backbone=one_of("backbone", backbone.path if backbone else "", backbone_uri),
            dataset=one_of("dataset", dataset.path if dataset else "", dataset_uri),
            store=store,
            output=model.path,
            strict=strict,
            recipe=recipe,
            overrides=set,
            run_key=run_key,
            owner=owner,
            takeover=takeover,
            resume=resume,
            nproc_per_node=nproc_per_node or None,
            time_limit=time_limit or None,
            launcher=launcher,
            num_nodes=num_nodes,
            job=job,
        )
        model.metadata.update(metadata(result))
        for name, value in training_metrics(result).items():
            metrics.log_metric(name, value)
        shutil.copyfile(result["report"], report.path)
        return (
            result["uri"],
            result["run_key"],
            result["checkpoint_uri"],
            result["step_count"],
            result["lost_steps"],
        )


if __name__ == "__main__":
    compiler.Compiler().compile(transfer_train, package_path=__file__.replace(".py", ".yaml"))
