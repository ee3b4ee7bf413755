"""Owns the step train-ddp: everything that is decided before a rank starts, and what is left when all have ended.

    recipe, dataset, store   checked                                    wrong input ends here, with one line
    run key                  the run this is; near twins are named
    finished?                its Model again, at once
    claim                    this attempt owns the run
    ranks                    torchrun, watched; a heartbeat meanwhile
    Model                    from the finish record; artifact and result.json

No torch in this process: an attempt that can't or need not train ends in a second.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from carryover.carry.transfer import placed
from carryover.checkpoint.claims import claim
from carryover.checkpoint.home import RunHome
from carryover.checkpoint.log import Record
from carryover.checkpoint.scribe import who_writes
from carryover.data.mix import NothingNew
from carryover.ground import storage
from carryover.ground.config import check
from carryover.ground.console import say, warn
from carryover.ground.errors import CarryoverError, NoProgress, RunAgain, WrongInput
from carryover.launch import hardware, ranks
from carryover.launch.job import JobSettings, image_of, read_settings
from carryover.launch.nodes import PORT, TORCHRUN, TRAINJOB, is_trainjob_node, nodes_of, ranks_asked
from carryover.models.assembly import choose
from carryover.steps import parent as parents
from carryover.steps import redraw
from carryover.steps.attempt import Launch, follow, inputs_of, lead
from carryover.steps.delivery import deliver, result_of, unchanged
from carryover.steps.job_command import Wish, command_of
from carryover.steps.lease import under_lease
from carryover.steps.plan import Plan, make_plan
from carryover.steps.results import is_of_machine, resolve_store, write_result
from carryover.steps.teacher import check_teacher
from carryover.steps.trainjob import ask, train_by_job
from carryover.steps.transfer import check_gaps, fetch
from carryover.tasks.task import make_task
from carryover.train import recipe as recipes
from carryover.train.environment import ranks_of
from carryover.train.limits import TIME_UP, is_finished
from carryover.train.outcome import versions
from carryover.train.parent import EXTEND
from carryover.train.twins import near_twins

FORMAT = 1
# Attempts of one owner without a new commit before it gives up.
MOST_FRUITLESS = 3
# What most who stop a process wait before they kill it is 30 s; the runtime `carryover-ddp` gives its pods 120.
GRACE_SECONDS, POD_GRACE_SECONDS = 25.0, 90.0
RESUME = ("auto", "never", "must")


def train_ddp(
    *,
    dataset: str,
    store: str = "",
    output: str = "",
    outputs_dir: str = "",
    recipe: str = "",
    overrides: Sequence[str] = (),
    run_key: str = "",
    init_from: str = "",
    grow_classes: bool = False,
    extend_overrides: Sequence[str] = (),
    owner: str = "",
    takeover: bool = False,
    resume: str = "auto",
    nproc_per_node: int | None = None,
    time_limit: float | None = None,
    grace_seconds: float | None = None,
    trust_pickle: bool = False,
    backbone: str = "",
    strict: bool = False,
    launcher: str = TORCHRUN,
    num_nodes: int = 1,
    node_rank: int | None = None,
    master_addr: str = "",
    master_port: int = PORT,
    job: str = "",
    lease: str = "",
    lease_seconds: float = 1800,
) -> dict[str, Any]:
    """Train, or go on training, and return the result (also in DIR/result.json).

    Args:
        dataset: URI of a dataset, or an artifact folder with its card.
        recipe: path of a YAML file, or YAML text.
        overrides: "key=value" each; they win over the recipe.
        run_key: go on with this run; keys not given come from it. "": the run that dataset and recipe name.
        init_from: a Model to extend: URI of its folder or card, or run:KEY. The run starts with its weights, classes
            and preprocessing, and keys not given are those it was made with. "": start anew.
        grow_classes: let the data bring classes that this Model does not know: they get new outputs, the old stay.
        extend_overrides: further overrides where there is a Model to extend, and none without: a pipeline's first run
            finds no Model, and keys such as data.mode=delta would be wrong there.
        owner: who we are (a workflow's id), so that a retry supersedes its older attempt at once. "": this process.
        resume: "auto", "never" (refuse to go on with a run that has commits) or "must" (refuse to start from zero).
        nproc_per_node: ranks. None: one for each GPU that env.num_gpus allows, one without any.
        time_limit: seconds of training, over all attempts of the run or of each (resume.time_limit).
        grace_seconds: how long ranks may take to save after SIGTERM. None: 25, and 90 in the pods of a TrainJob.
        trust_pickle: let pickled weights of others hold more than tensors, which is to run code in them.
        backbone: of transfer-train: what a new task starts from.
        strict: of transfer-train: any gap between it and the new network is an error.
        num_nodes, node_rank, master_addr, master_port: which machine of how many this is, and where node 0 is found;
            a pod of a TrainJob knows all of it. Every node is started with the same inputs; node 0 gives the result,
            the others {}.
        launcher: "torchrun" (ranks here) or "trainjob": a TrainJob of `num_nodes` pods trains, and is waited for.
        job: settings of its pods: path of a YAML file, or YAML text; see `launch.job.JobSettings`.
        lease, lease_seconds: of a pod: train only as long as somebody moves this lease on. "": as long as it takes.

    Raises:
        CarryoverError: with the exit code of the design.
    """
    started = time.monotonic()
    nodes = nodes_of(
        launcher=launcher,
        num_nodes=num_nodes,
        node_rank=node_rank,
        master_addr=master_addr,
        master_port=master_port,
    )
    settings = _settings(launcher, job, store)
    if settings is None:
        ranks.check_torchrun()
    check(nproc_per_node is None or nproc_per_node >= 1, "--nproc-per-node", nproc_per_node, "1 or more")
    check(time_limit is None or time_limit > 0, "--time-limit", time_limit, "above 0 seconds")
    if grace_seconds is None:
        grace_seconds = POD_GRACE_SECONDS if settings else GRACE_SECONDS
    check(grace_seconds >= 0, "--grace-seconds", grace_seconds, "0 or above")
    check(resume in RESUME, "--resume", resume, f"one of {', '.join(RESUME)}")
    redraw.every_seconds()
    who_writes()
    if output:
        # Written to last of all: a place that is not possible must not come out after hours of training.
        storage.scheme_of(output)
    if init_from:
        overrides = [*overrides, *extend_overrides]
    elif extend_overrides:
        say(f"{', '.join(extend_overrides)}: left out, as there is no Model to extend")
    # While there are ranks, launch.ranks hears the signal instead and lets them save.
    with ranks.on_stop_signal(_stop), tempfile.TemporaryDirectory(prefix="carryover-") as folder:
        scratch = Path(folder)
        try:
            plan = make_plan(
                dataset,
                store,
                recipe,
                overrides,
                run_key,
                init_from,
                time_limit,
                backbone=backbone,
                scratch=scratch,
                grow_classes=grow_classes,
            )
        except NothingNew as error:
            if not nodes.leads:
                return {}
            return write_result(unchanged(error, init_from, dataset, store, output, started), output, outputs_dir)
        check_gaps(plan.home, strict=strict)
        launch = Launch(ranks_asked(nproc_per_node), grace_seconds, trust_pickle, strict, nodes, output)
        if not nodes.leads:
            with under_lease(plan.home.store, lease, lease_seconds, leads=False):
                return _follow(plan, launch)
        finish = _finished(plan)
        trained = finish is None
        if finish is None and settings:
            wish = Wish(
                recipe=recipe,
                overrides=overrides,
                run_key=run_key,
                init_from=init_from,
                grow_classes=grow_classes,
                backbone=backbone,
                strict=strict,
                takeover=takeover,
                resume=resume,
                time_limit=time_limit,
                grace_seconds=grace_seconds,
                trust_pickle=trust_pickle,
            )
            finish = _by_job(plan, wish, settings, num_nodes, nproc_per_node, owner)
        elif finish is None:
            with under_lease(plan.home.store, lease, lease_seconds, leads=True):
                finish = _train(plan, owner, takeover, resume, launch)
        card = deliver(plan, finish, output)
        report = redraw.finish(plan.home, output, trained=trained)
        return write_result(result_of(plan, finish, card, report, time.monotonic() - started), output, outputs_dir)


def _stop() -> None:
    raise RunAgain("stopped while no rank was training; the same command goes on", trouble="preempted")


def _finished(plan: Plan) -> Record | None:
    """Return the finish record when there is nothing left to do."""
    finish = plan.home.finish_record()
    if not finish or not is_finished(finish.body, plan.limits):
        return None
    say(f"run {plan.run_key} is finished ({finish.body['reason']}): its Model is given again")
    if finish.body["reason"] == TIME_UP:
        warn(
            f"its time is spent: {finish.body['metrics']['seconds']:.0f} s of training, all attempts together; to go "
            "on, give a --time-limit above that, or none, or --set resume.time_limit=attempt"
        )
    known = recipes.keys_of(plan.recipe)
    idle = [name for name in plan.changes if known[name].identity]
    if idle:
        warn(f"{', '.join(idle)}: no effect on a finished run; raise optimization.max_epochs to go on")
    return finish


def _settings(launcher: str, job: str, store: str) -> JobSettings | None:
    """Return the settings of the TrainJob that is to train, None where ranks are started here."""
    if launcher != TRAINJOB or is_trainjob_node():
        if job:
            raise WrongInput("--job: it says what the pods of a TrainJob are; give --launcher trainjob with it")
        return None
    settings = read_settings(job)
    image_of(settings)
    if is_of_machine(resolve_store(store)):
        raise WrongInput(
            f"store: '{store or 'none given'}' is this machine's own, which the pods of a TrainJob can't reach; give "
            "an object store, e.g. s3://bucket/carryover",
            trouble="local-place",
        )
    return settings


def _by_job(plan: Plan, wish: Wish, settings: JobSettings, nodes: int, asked: int | None, owner: str) -> Record:
    """Have a TrainJob train the run, and return the finish record."""
    check_teacher(plan.recipe.distiller, plan.card)
    wanted = plan.recipe.env.num_gpus
    if asked is None and wanted > settings.gpu:
        raise WrongInput(
            f"env.num_gpus: {wanted} is more than a node of the job has (job.gpu {settings.gpu})",
            trouble="not-enough-gpus",
        )
    count = ranks_of(plan.recipe.env, asked, gpus=lambda: settings.gpu)
    job = ask(plan, settings, command_of(plan, wish), nodes=nodes, ranks=count, owner=owner)
    _announce(plan, f"a TrainJob trains: nodes {nodes}, ranks on each {count}")
    _obey(plan.home, wish.resume, job.owner)
    train_by_job(plan, job)
    finish = plan.home.finish_record()
    if finish is None:
        raise CarryoverError(
            f"run {plan.run_key}: its TrainJob is complete, but the run has no finish record; is {image_of(settings)} "
            "of this version?",
            trouble="step-failed",
        )
    return finish


def _follow(plan: Plan, launch: Launch) -> dict[str, Any]:
    """Be a node that does not lead, to the end of the run; it leaves nothing behind."""
    if not _finished(plan):
        check_teacher(plan.recipe.distiller, plan.card)
        count = ranks_of(plan.recipe.env, launch.asked, gpus=hardware.gpus)
        say(f"run {plan.run_key}, ranks: {launch.nodes.words(count)}, {hardware.thread_words(count)}")
        with inputs_of(plan, fetch(plan)) as inputs:
            follow(plan, inputs, launch, count)
    say(f"node {launch.nodes.rank}: run {plan.run_key} is finished; node 0 gives its Model")
    return {}


def _train(plan: Plan, owner: str, takeover: bool, resume: str, launch: Launch) -> Record:
    """Claim the run, run the ranks, and return the finish record."""
    home, run_key = plan.home, plan.run_key
    check_teacher(plan.recipe.distiller, plan.card)
    count = ranks_of(plan.recipe.env, launch.asked, gpus=hardware.gpus)
    begins = fetch(plan)
    _announce(plan, f"ranks: {launch.nodes.words(count)}, {hardware.thread_words(count)}")
    _obey(home, resume, owner)
    fruitless = home.fruitless_attempts(owner) if owner else 0
    if fruitless >= MOST_FRUITLESS:
        raise NoProgress(
            f"run {run_key}: {fruitless} attempts of {owner} ended without a new commit; look at the log of one, "
            "then start again under another --owner"
        )
    with inputs_of(plan, begins) as inputs:
        home.start(_run_json(plan))
        writer = claim(home, owner=owner, takeover=takeover, changes=plan.changes)
        if writer is None:
            say("another owner finished this run meanwhile")
        else:
            lead(plan, writer, inputs, launch, count)
    finish = home.finish_record()
    if finish is None:
        raise CarryoverError(f"run {run_key}: the ranks ended without a finish record", trouble="step-failed")
    return finish


def _announce(plan: Plan, where: str) -> None:
    """Say what is about to happen, and what a person may have meant instead."""
    if plan.home.exists():
        say(f"run {plan.run_key} exists: going on with it")
        for name, value in plan.changes.items():
            say(f"  {name}: {plan.before[name]!r} -> {value!r}")
    else:
        schema, mixup = plan.schema, plan.recipe.data.mixup
        asked = plan.recipe.optimization
        if plan.parent and plan.parent.kind == EXTEND:
            say(f"extends Model {plan.parent.digest} of {plan.parent.uri}")
            assembly = parents.assembly_of(plan.parent)
        else:
            model = placed(plan.recipe.model, plan.sought.source) if plan.sought else plan.recipe.model
            assembly = choose(model, schema, plan.recipe.data, adaptation=asked.adaptation)
        asked.loss(make_task(schema, plan.recipe.data, loss_func=asked.loss_func), mixed=mixup.turn_on)
        read = {name for branch in assembly.branches for name in branch.columns}
        mixup.check_columns(column for column in schema.features() if column.name in read)
        say(f"run {plan.run_key}: new; {', '.join(branch.name for branch in assembly.branches)}")
        if assembly.unused:
            warn(f"no model reads column {', '.join(assembly.unused)}")
        for twin in near_twins(plan.store, plan.card.digest, plan.recipe, parent=plan.parent):
            key = twin.run_key
            say(f"near twin: run {key} differs only in {twin.words}; to go on with it: --run-key {key}")
    if not plan.card.splits["validation"].rows:
        warn("the validation split is empty: no checks, no early stopping, and the last weights are the final ones")
    if words := plan.recipe.env.strategy_words():
        say(words)
    say(f"home: {plan.home.store.uri}   {where}")


def _obey(home: RunHome, resume: str, owner: str) -> None:
    """Hold --resume against what is there; an owner's retries are always auto."""
    last = home.latest_claim() if home.exists() else None
    if resume == "auto" or (last and owner and last.body["owner"] == owner):
        return
    commits = home.commits() if last else []
    if resume == "never" and commits:
        raise WrongInput(
            f"--resume never: {home.store.uri} has {len(commits)} commits, the newest at step {commits[-1].step}; "
            "use --resume auto to go on, or change the recipe (e.g. seed) for another run",
            trouble="resume-refused",
        )
    if resume == "must" and not commits:
        raise WrongInput(
            f"--resume must: {home.store.uri} has no commit to go on from; use --resume auto to start",
            trouble="resume-refused",
        )


def _run_json(plan: Plan) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "run_key": plan.run_key,
        "recipe": plan.recipe.flat(),
        "identity": recipes.identity(plan.recipe),
        "dataset": {"digest": plan.card.digest, "uri": plan.card.at},
        "parent": plan.parent.to_json() if plan.parent else None,
        "versions": versions(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
