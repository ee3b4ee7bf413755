"""Owns how a place is spelled: which schemes there are, the one spelling of each path and URI, and what none may hold.

    file, or a plain path    this machine; no card or table in an object store may lead to it
    s3 (minio, s3a)          tested
    gs, az, abfs             by fsspec, where their packages are installed; not tested
    memory                   in-process tests
http, ftp, ssh and whatever else fsspec knows are not read: a URI in somebody's table must not reach into a network.
"""

import os
import re

from carryover.ground.errors import WrongInput

SCHEMES = ("file", "s3", "gs", "az", "abfs", "memory")
# "//user:password@host/", and what a signed URI ends with.
_PASSWORD = re.compile(r"(?<=//)[^/@]*:[^/@]*(?=@)")
_SIGNED = re.compile(
    r"(?<=[?&])(X-Amz-[A-Za-z-]+|AWSAccessKeyId|Signature|sig|[a-z_-]*token|password)=[^&]*", re.IGNORECASE
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A name that is no UTF-8 comes as lone surrogates, which no JSON and no object store can hold.
_NO_UTF8 = re.compile(r"[\ud800-\udfff]")


def scheme_of(uri: str) -> str:
    """Return the scheme of a URI, "file" for a plain path.

    Raises:
        WrongInput: for a scheme that is not supported, for chained URIs, which could reach past the store, and for
            what would end in a log or lead around a rule: credentials, control characters, "..".
    """
    if not uri:
        raise WrongInput("an empty URI names nothing; give a path or a URI such as s3://bucket/folder")
    if _CONTROL.search(uri):
        raise WrongInput(f"{shown(uri)!a}: control characters are not allowed in a path or URI")
    if _NO_UTF8.search(uri):
        raise WrongInput(f"{shown(uri)!a}: is no UTF-8 text; rename it")
    if "::" in uri:
        raise WrongInput(f"{shown(uri)}: chained URIs ('::') are not allowed; give the plain URI")
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return "file"
    scheme = {"minio": "s3", "s3a": "s3"}.get(scheme, scheme)
    if scheme not in SCHEMES:
        raise WrongInput(f"{shown(uri)}: scheme '{scheme}' is not supported; use a path or one of {', '.join(SCHEMES)}")
    if scheme == "file":
        return scheme
    if scheme != "memory" and not rest.strip("/"):
        raise WrongInput(f"{uri}: names no bucket; give one, as in {scheme}://bucket/folder")
    if shown(uri) != uri:
        raise WrongInput(
            f"{shown(uri)}: credentials in a URI are not read, and would be written down with it; give them in the "
            "environment (AWS_ACCESS_KEY_ID, ...) or by the workload's identity"
        )
    if ".." in rest.split("/"):
        raise WrongInput(f"{uri}: '..' is not followed in an object store; write where it leads to")
    return scheme


def shown(uri: str) -> str:
    """Return a URI as it may be printed: without a password or a signature."""
    return _SIGNED.sub(r"\1=***", _PASSWORD.sub("***", uri))


def reached(place: str, by: str) -> str:
    """Return `place`, once the file `by` that names it may lead there.

    Raises:
        WrongInput: a place on this machine, named by what lies in an object store: whoever wrote that knows another
            machine, or means what is only on this one.
    """
    if scheme_of(place) == "file" and scheme_of(by) != "file":
        raise WrongInput(f"{by}: names {place}, a place on this machine; what lies in a store may only name stores")
    return place


def normal(uri: str) -> str:
    """Return the canonical spelling of a URI: absolute for local paths, s3:// for minio://, no slash at the end."""
    scheme = scheme_of(uri)
    _, separator, rest = uri.partition("://")
    if scheme == "file":
        return os.path.abspath(os.path.expanduser(rest if separator else uri))
    return f"{scheme}://{rest.strip('/') if scheme != 'memory' else rest.rstrip('/')}"


def split(uri: str) -> tuple[str, str]:
    """Return (folder URI, file name)."""
    folder, _, name = normal(uri).rpartition("/")
    return folder or "/", name


def join(uri: str, name: str) -> str:
    """Return the URI of `name` inside the folder `uri`."""
    return f"{normal(uri).rstrip('/')}/{name}"


def is_member(name: object) -> bool:
    """Tell whether a name that a file gives for a neighbour stays inside that file's folder."""
    return isinstance(name, str) and "\\" not in name and not {"", ".", ".."} & set(name.split("/"))
