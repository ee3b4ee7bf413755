"""Owns the doctor's looks at a Kubernetes cluster: who we are there, each right of a step, what is installed.

A right is asked for by itself (SelfSubjectAccessReview); nothing is made or changed.
"""

from collections.abc import Iterator
from pathlib import Path

from carryover.ground.errors import CarryoverError
from carryover.launch.cluster import Cluster
from carryover.launch.job import JobSettings
from carryover.launch.trainjob import GROUP, PLURAL, VERSION
from carryover.steps.doctor_look import FAIL, OK, WARN, Finding
from carryover.steps.results import in_cluster

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
# What `--launcher trainjob` does, as manifests/trainer/rbac.yaml allows it, and what Argo's executor reports by.
RIGHTS = (
    ("create", PLURAL, GROUP),
    ("get", PLURAL, GROUP),
    ("list", PLURAL, GROUP),
    ("list", "pods", ""),
    ("get", "pods/log", ""),
)
EXECUTOR = (("create", "workflowtaskresults", "argoproj.io"), ("patch", "workflowtaskresults", "argoproj.io"))
_MEND = "kubectl apply -k manifests/overlays/trainer in that namespace (docs/cluster.md)"


def cluster(namespace: str) -> Iterator[Finding]:
    """Look at the cluster of this pod, or of KUBECONFIG."""
    if in_cluster():
        is_there = _ACCOUNT.exists()
        mend = "" if is_there else "automountServiceAccountToken: true, where a step must speak to the cluster"
        yield Finding("pod identity", OK if is_there else WARN, "a token" if is_there else "no token", mend)
    try:
        here = Cluster(namespace)
        trainer = here.serves(GROUP, VERSION)
    except CarryoverError as error:
        said = str(error).removeprefix("--launcher trainjob: ")
        yield Finding("cluster", FAIL, said, "look at KUBECONFIG, or run this in a pod", error.trouble)
        return
    yield Finding("cluster", OK, f"answers; namespace {here.namespace}")
    yield from _trainer(here, trainer)
    argo = here.serves("argoproj.io", "v1alpha1")
    if "workflows" in argo:
        yield Finding("argo", OK, "installed")
    else:
        yield Finding("argo", WARN, "not installed", "install Kubeflow Pipelines or Argo where pipelines shall run")
    if "workflowtaskresults" in argo:
        yield from _rights(here, EXECUTOR, "argo rights", "kubectl apply -k manifests/argo (docs/cluster.md)")
    yield _queues(here)


def _trainer(here: Cluster, kinds: set[str]) -> Iterator[Finding]:
    if PLURAL not in kinds:
        mend = "install Kubeflow Trainer 2, where --launcher trainjob is wanted"
        yield Finding("trainer", WARN, "the cluster knows no TrainJob", mend, "cluster-refused")
        return
    yield Finding("trainer", OK, f"TrainJobs of {GROUP}/{VERSION}")
    yield from _rights(here, RIGHTS, "trainer rights", _MEND)
    wanted = JobSettings().runtime
    try:
        there = here.names(GROUP, VERSION, "clustertrainingruntimes", everywhere=True)
    except CarryoverError as error:
        # A step does not need this right, so nobody is told to give it.
        yield Finding("trainer runtime", WARN, f"can't be looked at: {error}", f"it must be there: {wanted}")
        return
    mend = "" if wanted in there else "kubectl apply -k manifests/trainer, or name another by job.runtime"
    state = OK if wanted in there else FAIL
    text = f"{wanted} is {'there' if wanted in there else 'missing'} (there: {', '.join(there) or 'none'})"
    yield Finding("trainer runtime", state, text, mend, "" if wanted in there else "cluster-refused")


def _rights(here: Cluster, rights: tuple[tuple[str, str, str], ...], name: str, mend: str) -> Iterator[Finding]:
    lacking = [f"{verb} {what}" for verb, what, group in rights if not here.may(verb, what, group)]
    if lacking:
        yield Finding(name, FAIL, f"missing: {', '.join(lacking)}", mend, "cluster-refused")
    else:
        yield Finding(name, OK, f"all {len(rights)}: {', '.join(f'{verb} {what}' for verb, what, _ in rights)}")


def _queues(here: Cluster) -> Finding:
    group = "kueue.x-k8s.io"
    version = next((one for one in ("v1beta1", "v1beta2") if "localqueues" in here.serves(group, one)), "")
    if not version:
        return Finding("kueue", OK, "not installed; only job.queue needs it")
    try:
        there = here.names(group, version, "localqueues")
    except CarryoverError as error:
        return Finding("kueue", WARN, f"queues can't be looked at: {error}")
    if not there:
        return Finding("kueue", WARN, f"installed, and namespace {here.namespace} has no queue", "make a LocalQueue")
    return Finding("kueue", OK, f"queues of namespace {here.namespace}: {', '.join(there)}")
