"""Owns the few words that are said to a Kubernetes API: the only user of its client, which is imported when needed.

create, get, list   trainjobs          list   pods          read   a pod's log
may, serves, names  what the doctor asks: rights one by one, kinds of object, objects of a kind

In a pod by its service account, elsewhere by KUBECONFIG. What a person can mend is one line; what passes, Unreachable.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from carryover.ground.errors import CarryoverError, RunAgain, WrongInput
from carryover.launch.trainjob import GROUP, NODE, PLURAL, VERSION

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# Seconds to connect in, and to wait for an answer.
_TIMEOUT = (10, 30)
_NOT_FOUND, _CONFLICT, _FORBIDDEN = 404, 409, (401, 403)


class NotThere(CarryoverError):
    """What was asked for is not there."""

    usual = "cluster-refused"


class Exists(CarryoverError):
    """What was to be created is there already."""

    usual = "cluster-refused"


class Unreachable(RunAgain):
    """The cluster did not answer, or not now."""

    usual = "cluster-unreachable"


class Cluster:
    """One namespace of a cluster."""

    def __init__(self, namespace: str = "") -> None:
        """Find the cluster; nothing is asked of it yet.

        Args:
            namespace: "" for that of this pod, or of KUBECONFIG's context.

        Raises:
            WrongInput: without the client, or without a cluster.
        """
        try:
            from kubernetes import client, config
        except ImportError:
            raise WrongInput(
                "--launcher trainjob: needs the package kubernetes; install carryover[trainjob]",
                trouble="missing-package",
            ) from None
        settings: Any = client.Configuration()
        own = ""
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
                config.load_incluster_config(client_configuration=settings)
                own = _ACCOUNT.read_text().strip() if _ACCOUNT.exists() else ""
            else:
                # The client looks at the variable once, when it is imported.
                place = os.environ.get("KUBECONFIG")
                config.load_kube_config(config_file=place, client_configuration=settings)
                own = config.list_kube_config_contexts(config_file=place)[1]["context"].get("namespace", "")
        except (config.ConfigException, OSError) as error:
            raise WrongInput(
                f"--launcher trainjob: no cluster is known here ({error}); run it in a pod, or set KUBECONFIG"
            ) from None
        # The client's own would repeat a request for a minute; a poll comes again by itself.
        settings.retries = False
        self.namespace = namespace or own or "default"
        api = client.ApiClient(settings)
        # The client's answers have types of everything that JSON can be.
        self._objects: Any = client.CustomObjectsApi(api)
        self._core: Any = client.CoreV1Api(api)

    def create_job(self, job: dict[str, Any]) -> dict[str, Any]:
        """Create a TrainJob.

        Raises:
            Exists: when there is one of that name.
        """
        with _answers(f"create trainjobs in namespace {self.namespace}", missing=_NO_TRAINER):
            return self._objects.create_namespaced_custom_object(
                GROUP, VERSION, self.namespace, PLURAL, job, _request_timeout=_TIMEOUT
            )

    def job(self, name: str) -> dict[str, Any]:
        """Return a TrainJob as it is now.

        Raises:
            NotThere: when there is none of that name.
        """
        with _answers(f"get trainjobs in namespace {self.namespace}"):
            return self._objects.get_namespaced_custom_object(
                GROUP, VERSION, self.namespace, PLURAL, name, _request_timeout=_TIMEOUT
            )

    def jobs(self, label: str, value: str) -> list[dict[str, Any]]:
        """Return the TrainJobs with this label."""
        with _answers(f"list trainjobs in namespace {self.namespace}", missing=_NO_TRAINER):
            return self._objects.list_namespaced_custom_object(
                GROUP, VERSION, self.namespace, PLURAL, label_selector=f"{label}={value}", _request_timeout=_TIMEOUT
            )["items"]

    def pods(self, job: str) -> list[dict[str, Any]]:
        """Return the pods of a TrainJob, those that have ended too."""
        with _answers(f"list pods in namespace {self.namespace}"):
            answer = self._core.list_namespaced_pod(
                self.namespace,
                label_selector=f"jobset.sigs.k8s.io/jobset-name={job}",
                _preload_content=False,
                _request_timeout=_TIMEOUT,
            )
            return json.loads(answer.data)["items"]

    def may(self, verb: str, resource: str, group: str = "") -> bool:
        """Tell whether we have a right in this namespace; `resource` may have a part below it, as pods/log."""
        resource, _, below = resource.partition("/")
        asked = {"namespace": self.namespace, "verb": verb, "group": group, "resource": resource, "subresource": below}
        review = {"spec": {"resourceAttributes": {name: value for name, value in asked.items() if value}}}
        with _answers("ask for our own rights"):
            answer = self._post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
            return bool(answer["status"]["allowed"])

    def serves(self, group: str, version: str) -> set[str]:
        """Return the plural names of the kinds that the cluster knows in a group; none where it lacks the group."""
        try:
            with _answers(f"ask which kinds there are in {group}"):
                return {one["name"] for one in self._get(f"/apis/{group}/{version}")["resources"]}
        except NotThere:
            return set()

    def names(self, group: str, version: str, plural: str, *, everywhere: bool = False) -> list[str]:
        """Return the names of the objects of a kind, in this namespace, or of a kind that has none."""
        place = "" if everywhere else f"/namespaces/{self.namespace}"
        with _answers(f"list {plural}"):
            items = self._get(f"/apis/{group}/{version}{place}/{plural}")["items"]
        return sorted(one["metadata"]["name"] for one in items)

    def _get(self, path: str) -> dict[str, Any]:
        return self._call(path, "GET", None)

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call(path, "POST", body)

    def _call(self, path: str, method: str, body: dict[str, Any] | None) -> dict[str, Any]:
        answer = self._core.api_client.call_api(
            path,
            method,
            body=body,
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
            auth_settings=["BearerToken"],
            response_type="object",
            _return_http_data_only=True,
            _request_timeout=_TIMEOUT,
        )
        return answer

    def log(self, pod: str, *, since_seconds: int) -> Iterator[str]:
        """Give a pod's lines as they come, "TIME words" each, until its container ends or the line to it breaks.

        Args:
            since_seconds: how far back to begin; 0 for its start.
        """
        more = {"since_seconds": since_seconds} if since_seconds else {}
        with _answers(f"get pods/log in namespace {self.namespace}"):
            answer = self._core.read_namespaced_pod_log(
                pod,
                self.namespace,
                container=NODE,
                follow=True,
                timestamps=True,
                _preload_content=False,
                _request_timeout=(_TIMEOUT[0], 60),
                **more,
            )
            rest = b""
            for part in answer.stream(amt=None):
                *lines, rest = (rest + part).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
            if rest:
                yield rest.decode(errors="replace")


_NO_TRAINER = "the cluster knows no TrainJob; install Kubeflow Trainer 2"


@contextmanager
def _answers(what: str, *, missing: str = "") -> Iterator[None]:
    """Turn what the client raises into our errors."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        said = _said(error)
        if error.status == _NOT_FOUND:
            raise (WrongInput(missing) if missing else NotThere(said)) from None
        if error.status == _CONFLICT:
            raise Exists(said) from None
        if error.status in _FORBIDDEN:
            raise WrongInput(f"this service account may not {what}: {said}") from None
        if error.status and 400 <= error.status < 500 and error.status != 429:
            raise WrongInput(f"{what}: the cluster refused it: {said}") from None
        raise Unreachable(f"{what}: the cluster does not answer ({error.status} {said})") from None
    except HTTPError as error:
        raise Unreachable(f"{what}: the cluster does not answer ({str(error).splitlines()[0]})") from None


def _said(error: Any) -> str:
    """Return the message of an answer, which is a Status in JSON."""
    try:
        return " ".join(str(json.loads(error.body)["message"]).split())
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
