"""Owns the step `doctor`: what is well here, what is not, and how to mend it; nothing is changed anywhere.

    this machine     always            python, packages, accelerator, memory, disks, hub, loggers
    a store          --store URI       address, credentials, each right, conditions, clock, speed
    a KFP server     --host URL        answers, version, login
    a cluster        --namespace NS, or in a pod     rights, Argo, Trainer, Kueue

All looks run at once, each for a limited time.
"""

from collections.abc import Iterator

from carryover.ground.uris import normal
from carryover.steps import doctor_cluster, doctor_kfp, doctor_machine, doctor_store
from carryover.steps.doctor_look import Finding, Look, look_at_all
from carryover.steps.results import in_cluster

# The client of a store asks each thing twice, 20 seconds each; twelve calls are asked.
_STORE_SECONDS, _KFP_SECONDS, _CLUSTER_SECONDS = 120.0, 40.0, 90.0


def doctor(*, store: str = "", host: str = "", namespace: str = "") -> Iterator[list[Finding]]:
    """Give findings as they come, a list for each look.

    Args:
        store: URI of a store to try; "" for none.
        host: address of a Kubeflow Pipelines server; "" for none.
        namespace: of a cluster; "" looks at a cluster only inside of a pod, at the pod's own namespace.

    Raises:
        WrongInput: for a store that is no URI.
    """
    looks = [
        Look("python", 60, doctor_machine.python),
        Look("accelerator", doctor_machine.TORCH_SECONDS + 30, doctor_machine.accelerators),
        Look("machine", 20, doctor_machine.machine),
        Look("hub", 15, doctor_machine.hub),
        Look("loggers", 20, doctor_machine.loggers),
    ]
    if store:
        uri = normal(store)
        looks.append(Look("store", _STORE_SECONDS, lambda: doctor_store.store(uri), "store-unreachable"))
    if host:
        looks.append(Look("kfp", _KFP_SECONDS, lambda: doctor_kfp.server(host, namespace), "kfp-unreachable"))
    if namespace or in_cluster():
        asked = Look("cluster", _CLUSTER_SECONDS, lambda: doctor_cluster.cluster(namespace), "cluster-unreachable")
        looks.append(asked)
    return look_at_all(looks)
