"""Owns which errors have a name of ours: our own, and what a failing store or too little memory means for a step."""

import errno

from carryover.ground.disk import FULL
from carryover.ground.errors import CarryoverError, RunAgain, StoreFailed, WrongInput

_CLIENTS = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "adlfs", "azure")
_NOT_OURS = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket", "403")
_NOBODY = ("NoCredentialsError", "PartialCredentialsError", "NoAuthTokenError", "UnauthorizedSSOTokenError")
# Allocators that are not Python's raise plain RuntimeErrors: torch's on a CPU, and C++'s.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "bad_alloc", "Cannot allocate memory")
# Each error number of a path that a person named, and what would be right.
_PATHS = {
    errno.ENOENT: ("not-there", "name what is there"),
    errno.EACCES: ("path-refused", "give this user the right to it, or name another place"),
    errno.EPERM: ("path-refused", "give this user the right to it, or name another place"),
    errno.EISDIR: ("path-refused", "name a file"),
    errno.ENOTDIR: ("path-refused", "a file lies where a folder must be; name another place"),
    errno.EEXIST: ("path-refused", "a file lies where a folder must be, or a folder where a file; name another place"),
    errno.ELOOP: ("path-refused", "its links lead in a circle; mend them, or name another place"),
    errno.ENAMETOOLONG: ("path-refused", "give a shorter name"),
}
# Of a name in an error: a longer one tells nothing more.
_SHOWN = 200
_DISK = (*FULL, errno.EROFS, errno.EIO, errno.ESTALE)


def named(error: BaseException) -> CarryoverError | None:
    """Return the error of ours that an error is or stands for, None for one that nobody has a name for."""
    if isinstance(error, CarryoverError):
        return _of_worker(error)
    return of_memory(error) or of_store(error)


def of_path(error: BaseException) -> CarryoverError | None:
    """Return the error of ours for a path that can't be used, None when it is something else."""
    if not isinstance(error, OSError) or error.errno not in _PATHS or not error.filename:
        return None
    trouble, advice = _PATHS[error.errno]
    name, said = str(error.filename), (error.strerror or type(error).__name__).lower()
    name = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
    return WrongInput(f"{name}: {said}; {advice}", trouble=trouble)


def trouble_of(error: BaseException, otherwise: str) -> str:
    """Return the trouble of the error of ours that an error is or stands for, `otherwise` where there is none."""
    known = named(error) or of_path(error)
    return known.trouble if known else otherwise


def _of_worker(error: CarryoverError) -> CarryoverError:
    """Return an error as it was raised: torch gives one of a process that prepares batches with its whole traceback."""
    text = str(error)
    if not (isinstance(error, WrongInput) and text.startswith("Caught ") and "Original Traceback" in text):
        return error
    return WrongInput(text.strip().splitlines()[-1].partition(": ")[2], trouble="unreadable-data")


def of_memory(error: BaseException) -> CarryoverError | None:
    """Return the error of ours for an allocation that failed, None when it is something else.

    Another process may have had the memory, so it is worth another attempt; attempts without progress are counted.
    """
    plain = isinstance(error, (RuntimeError, OSError)) and any(words in str(error) for words in _NO_MEMORY)
    # (torch.OutOfMemoryError, of accelerators; torch is not imported here.)
    if not (plain or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"):
        return None
    text = f"out of memory: {(str(error).splitlines() or [type(error).__name__])[0]}"
    advice = "lower env.per_gpu_batch_size (env.batch_size, and so the result, stays) or give more memory"
    words = f"{text}; {advice}; the same command goes on from the newest commit"
    return RunAgain(words, trouble="out-of-memory")


def of_store(error: BaseException) -> CarryoverError | None:
    """Return the error of ours that a store's own error stands for, None when it is not a store's.

    Credentials and permissions are wrong input: running it again cannot help. A store that does not answer, that
    answers with an error of its own, or that is full may be well again at the next attempt.
    """
    cause = error
    while cause.__cause__ is not None and not _is_client(cause):
        # File systems wrap what their client said, sometimes without its words.
        cause = cause.__cause__
    if not (_is_client(cause) or isinstance(error, (ConnectionError, TimeoutError)) or _is_disk(error)):
        return None
    # (A client's error may have an answer of None: nobody answered.)
    answer = getattr(cause, "response", None) or {}
    code = cause.code if isinstance(cause, StoreFailed) else str(answer.get("Error", {}).get("Code", ""))
    text = f"the store failed: {type(cause).__name__}: {' '.join(str(cause).split()) or code}"
    if type(cause).__name__ in _NOBODY:
        advice = "check the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the identity of the pod"
        return WrongInput(f"{text}; {advice}", trouble="no-credentials")
    if type(cause).__name__ == "ParamValidationError":
        return WrongInput(f"{text}; give the name of a bucket, as in s3://bucket/folder", trouble="bad-uri")
    if code in _NOT_OURS:
        advice = "check the credentials and what they may do: carryover doctor --store URI"
        return WrongInput(f"{text}; {advice}", trouble="store-forbidden")
    if isinstance(error, OSError) and error.errno in FULL:
        return RunAgain(f"{text}; make room there, then give the same command again", trouble="disk-full")
    advice = "give the same command again when it answers; carryover doctor --store URI looks what is wrong"
    return RunAgain(f"{text}; {advice}", trouble="store-unreachable")


def _is_client(error: BaseException) -> bool:
    return isinstance(error, StoreFailed) or type(error).__module__.partition(".")[0] in _CLIENTS


def _is_disk(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _DISK
