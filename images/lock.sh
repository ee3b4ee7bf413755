#!/bin/sh
# Writes the locks of the images anew: of all that requirements*.lock pin, what the runtime needs on a cluster, without
# development's tools. Versions are those of requirements.lock; `make lock` comes first.
# usage: images/lock.sh VENV
set -eu
venv=$1
cd "$(dirname "$0")/.."

compile() {
    "$venv/bin/uv" pip compile --quiet pyproject.toml --extra trainjob --extra mlflow "$@" --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-annotate --no-header -c requirements.lock
}

compile -o images/requirements.lock
# mmcv asks for opencv-python, whose wheels need a display's libraries; the headless one has the same modules.
printf 'opencv-python ; python_version < "3"\n' >"$venv/override.txt"
printf 'setuptools<81\n' >"$venv/build.txt"
compile --extra detection -c requirements-detection.lock --override "$venv/override.txt" --build-constraints "$venv/build.txt" \
    -o "$venv/all.lock"
"$venv/bin/python" tools/lock_rest.py "$venv/all.lock" images/requirements.lock >images/requirements-detection.lock
