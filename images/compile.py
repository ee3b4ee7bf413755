"""Owns the byte code of an image: compiles what the newest layer brought, and leaves alone what an older one compiled.

The root file system of a pod is read-only, so what is not compiled here is compiled anew by every start. The byte code
doesn't ask when its source was changed: engines and registries may set the times of a layer's files as they like.
"""

import py_compile
import sysconfig
from concurrent.futures import ProcessPoolExecutor
from importlib.util import cache_from_source
from pathlib import Path


def compile_file(path: str) -> None:
    """Compile one file; templates of code that are no Python are left as they are."""
    try:
        py_compile.compile(path, doraise=True, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    except (py_compile.PyCompileError, SyntaxError, UnicodeDecodeError):
        return


if __name__ == "__main__":
    folder = Path(sysconfig.get_paths()["purelib"])
    new = [str(path) for path in folder.rglob("*.py") if not Path(cache_from_source(str(path))).exists()]
    with ProcessPoolExecutor() as pool:
        list(pool.map(compile_file, new, chunksize=50))
