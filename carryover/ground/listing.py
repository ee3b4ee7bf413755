"""Owns looking at a part of a folder: what is sorted behind a name, or a few of its folders, at a cost that is its own.

A listing of an object store comes in pages of a thousand names, so that of a folder that grows costs more each time.
S3 starts one where it is asked to; of other stores all names are read, and what is not wanted is left out.
"""

from carryover.ground.storage import Store

_PAGE = 1000


def names_after(store: Store, folder: str, name: str) -> list[str]:
    """Return the names of the files directly in a folder that sort behind `name`, sorted; none without a folder."""
    if store.scheme != "s3":
        return [found for found in store.names(folder) if found > name]
    bucket, prefix, _ = store.fs.split_path(store.at(f"{folder}/"))
    asked = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/", "StartAfter": f"{prefix}{name}"}
    found: list[str] = []
    while True:
        page = store.fs.call_s3("list_objects_v2", **asked, **store.deadline())
        found += [entry["Key"].removeprefix(prefix) for entry in page.get("Contents") or []]
        if not page.get("IsTruncated"):
            return sorted(found)
        asked["ContinuationToken"] = page["NextContinuationToken"]


def some_folders(store: Store, folder: str, most: int) -> list[str]:
    """Return the names of the first folders directly in a folder, sorted, `most` at most."""
    if store.scheme != "s3" or most > _PAGE:
        return store.folders(folder)[:most]
    bucket, prefix, _ = store.fs.split_path(store.at(f"{folder}/"))
    asked = {"Bucket": bucket, "Prefix": prefix, "Delimiter": "/", "MaxKeys": most}
    page = store.fs.call_s3("list_objects_v2", **asked, **store.deadline())
    return sorted(entry["Prefix"].removeprefix(prefix).rstrip("/") for entry in page.get("CommonPrefixes") or [])
