#!/bin/sh
# Adds the extra `detection` to a virtual environment that make_venv.sh made: mmdet, and mmcv built from its source.
# usage: make_detection.sh VENV LOCK WHEELS
# mmcv has no wheel for this torch. Its build takes minutes (6 to 17 on two cores), so the wheel is kept in WHEELS, one
# for each Python and torch. It needs a C++ compiler, and a setuptools that still has pkg_resources (80).
set -eu
venv=$1 lock=$2 wheels=$3

VIRTUAL_ENV=$(cd "$venv" && pwd)
export VIRTUAL_ENV
kind=$("$venv/bin/python" -c 'import sys, torch; print(f"cp{sys.version_info[0]}{sys.version_info[1]}-torch{torch.__version__}")')
kept="$wheels/$kind"

# mmcv's entry alone, and all others: each with the hashes of the lock.
sed -n '/^mmcv==/,/[^\\]$/p' "$lock" >"$venv/mmcv.lock"
[ -s "$venv/mmcv.lock" ] || { echo "detection: $lock does not pin mmcv" >&2; exit 2; }
sed '/^mmcv==/,/[^\\]$/d' "$lock" >"$venv/detection.lock"
"$venv/bin/uv" pip install --quiet --no-deps --require-hashes -r "$venv/detection.lock"

if ! ls "$kept"/mmcv-*.whl >/dev/null 2>&1; then
    command -v c++ >/dev/null || {
        echo "detection: mmcv is built from source and needs a C++ compiler; on Debian and Ubuntu: apt-get install g++" >&2
        exit 2
    }
    echo "detection: building mmcv from its source, once; this takes minutes"
    "$venv/bin/python" -m ensurepip >/dev/null
    mkdir -p "$kept.part"
    # With ninja it compiles on all cores. Operators for the CPU are wanted; those for a GPU would need its compiler.
    PATH="$VIRTUAL_ENV/bin:$PATH" MMCV_WITH_OPS=1 FORCE_CUDA=0 "$venv/bin/python" -m pip wheel --quiet --disable-pip-version-check --require-hashes \
        --no-deps --no-binary mmcv --no-build-isolation -r "$venv/mmcv.lock" -w "$kept.part"
    rm -rf "$kept" && mv "$kept.part" "$kept"
fi
"$venv/bin/uv" pip install --quiet --no-deps "$kept"/mmcv-*.whl
"$venv/bin/python" -c 'import mmcv.ops, mmdet'
