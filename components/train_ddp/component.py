"""Owns the component `train_ddp`: training that goes on from its last commit after any stop."""
# kfp reads the annotations of a component as values, and its defaults as JSON.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false
# ruff: noqa: B006

from typing import NamedTuple

from kfp import compiler, dsl


@dsl.component(base_image="carryover:v0.1.0", install_kfp_package=False)
def train_ddp(
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    store: str,
    dataset: dsl.Input[dsl.Dataset] = None,
    dataset_uri: str = "",
    init_from: dsl.Input[dsl.Model] = None,
    init_from_uri: str = "",
    grow_classes: bool = False,
    recipe: str = "",
    set: list[str] = [],
    extend_set: list[str] = [],
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
    """Train a model over one or more ranks; whoever starts it again goes on from the last committed step.

    Args:
        model: The trained model, with all that inference needs.
        metrics: Scores of the chosen weights on the validation rows; steps, speed, attempts, lost steps.
        report: One HTML page: curves over all attempts, what saves cost, what was lost, lineage.
        store: URI that keeps all that lasts, checkpoints too, e.g. s3://bucket/carryover.
        dataset: The Dataset to train on; or dataset_uri.
        dataset_uri: Its canonical URI instead of the artifact.
        init_from: A Model to extend: its weights, classes and preprocessing; recipe keys not given come from it.
        init_from_uri: Its canonical URI instead of the artifact, or run:KEY. Neither: training starts anew.
        grow_classes: Classes that this Model does not know get new outputs behind its own, instead of an error.
        recipe: The recipe as YAML text. Empty: every key at its default.
        set: Overrides of single recipe keys, each "key=value".
        extend_set: Further overrides where there is a Model to extend, e.g. data.mode=delta; left out without one.
        run_key: Names the run that is to go on with other settings. Empty: by data and recipe.
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

    from carryover.steps.component import at_most_one, exit_codes, metadata, one_of, training_metrics
    from carryover.steps.train_ddp import train_ddp as step

    with exit_codes():
        result = step(
            dataset=one_of("dataset", dataset.path if dataset else "", dataset_uri),
            store=store,
            output=model.path,
            init_from=at_most_one("init_from", init_from.path if init_from else "", init_from_uri),
            # Without a Model to extend, as in a pipeline's first run, all classes are the data's.
            grow_classes=grow_classes and bool(init_from or init_from_uri),
            recipe=recipe,
            overrides=set,
            extend_overrides=extend_set,
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
    compiler.Compiler().compile(train_ddp, package_path=__file__.replace(".py", ".yaml"))
