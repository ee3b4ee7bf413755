"""Owns how a place is spelled: which schemes there are, and the one spelling of each path and URI."""

import os

from carryover.ground.errors import WrongInput

SCHEMES = ("file", "s3", "gs", "az", "abfs", "memory")


def scheme_of(uri: str) -> str:
    """Return the scheme of a URI, "file" for a plain path.

    Raises:
        WrongInput: for a scheme that is not supported, and for chained URIs, which could reach past the store.
    """
    if not uri:
        raise WrongInput("an empty URI names nothing; give a path or a URI such as s3://bucket/folder")
    if "::" in uri:
        raise WrongInput(f"{uri}: chained URIs ('::') are not allowed; give the plain URI")
    scheme, separator, _ = uri.partition("://")
    scheme = {"minio": "s3", "s3a": "s3"}.get(scheme, scheme) if separator else "file"
    if scheme not in SCHEMES:
        raise WrongInput(f"{uri}: scheme '{scheme}' is not supported; use a path or one of {', '.join(SCHEMES)}")
    return scheme


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
