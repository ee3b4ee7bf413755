#!/bin/sh
# Makes a virtual environment that holds exactly what the lock says, and this project editable.
# usage: make_venv.sh VENV LOCK [PYTHON]
# Where packages come from is the machine's business (pip's and uv's own settings); this script names no index.
set -eu
venv=$1 lock=$2 wanted=${3:-}

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
    for name in ${wanted:-python3 python3.13 python3.12 python3.11 python}; do
        if fits "$name"; then echo "$name"; return; fi
    done
    echo "setup: no Python 3.11, 3.12 or 3.13 among: ${wanted:-python3 python3.13 python3.12 python3.11 python}." \
        "Install one, or name it: make setup PYTHON=/path/to/python3.12" >&2
    exit 2
}

if ! fits "$venv/bin/python"; then
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "setup: $python has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 2
    fi
    "$python" -m venv --clear "$venv"
fi

# pip takes minutes over this many packages, uv seconds. pip fetches uv itself, by the version and hashes of the same lock.
sed -n '/^uv==/,/[^\\]$/p' "$lock" >"$venv/uv.lock"
[ -s "$venv/uv.lock" ] || { echo "setup: $lock does not pin uv" >&2; exit 2; }
version=$(sed -n 's/^uv==\([^ ;]*\).*/\1/p' "$venv/uv.lock")
if [ "$("$venv/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$version" ]; then
    "$venv/bin/python" -m ensurepip >/dev/null
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$venv/uv.lock"
fi

VIRTUAL_ENV=$(cd "$venv" && pwd)
export VIRTUAL_ENV
uv="$venv/bin/uv"
"$uv" pip sync --quiet --require-hashes "$lock"
# The lock holds the build backend too, so building needs no network and no second environment.
"$uv" pip install --quiet --no-deps --no-build-isolation --editable .
