#!/bin/sh
# Installs one layer's packages into the image's environment while an image is built; see Containerfile.
# usage: install.sh cuda|torch|rest|all LOCK    entries of a lock, by kind
#        install.sh mmcv DIR                    a wheel of mmcv in DIR, built there unless it is there
#        install.sh detection LOCK DIR          a lock's entries, and that wheel
#        install.sh project WHEEL SHA256
# Every version and hash is a lock's. Where packages come from is the building machine's business: this names no index.
set -eu
kind=$1 given=$2 more=${3:-}
cuda='^(nvidia-|cuda-|triton==)' torch='^(torch|torchvision)=='

if [ -s /run/secrets/ca.pem ]; then export SSL_CERT_FILE=/run/secrets/ca.pem PIP_CERT=/run/secrets/ca.pem; fi
if [ -s /run/secrets/uv.toml ]; then export UV_CONFIG_FILE=/run/secrets/uv.toml; fi
if [ -s /run/secrets/pip.conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip.conf; fi
export UV_LINK_MODE=copy UV_CACHE_DIR="${UV_CACHE_DIR:-/var/cache/uv}"

install() { /tools/bin/uv pip install --quiet --no-deps "$@"; }
# An entry of a lock begins at a line's start; its hashes are the indented lines that follow.
entries() { awk -v names="$1" '/^[^ #]/ { keep = $0 ~ names } keep' "$given" >/tmp/chosen.lock; }
others() { awk -v names="$1" '/^[^ #]/ { keep = $0 !~ names } keep' "$given" >/tmp/chosen.lock; }
locked() { install --require-hashes -r /tmp/chosen.lock; }

build_mmcv() {
    if ls "$given"/mmcv-*.whl >/dev/null 2>&1; then return 0; fi
    apt-get update -qq && apt-get install -y -qq --no-install-recommends g++ python3-dev >/dev/null
    install --require-hashes -r "$given/build.lock"
    python3 -m ensurepip >/dev/null
    # With ninja it compiles on all cores.
    MMCV_WITH_OPS=1 FORCE_CUDA=0 python3 -m pip wheel --quiet --disable-pip-version-check --no-cache-dir --require-hashes \
        --no-deps --no-binary mmcv --no-build-isolation -r "$given/mmcv.lock" -w "$given"
}

case $kind in
cuda) [ -n "${TORCH_INDEX:-}" ] || { entries "$cuda" && locked; } ;;
torch)
    entries "$torch"
    if [ -n "${TORCH_INDEX:-}" ]; then
        # Another build of the same versions: the lock has no hashes of it.
        sed -n 's/^\([^ ]*==[^ ]*\).*/\1/p' /tmp/chosen.lock >/tmp/torch.txt
        UV_DEFAULT_INDEX="$TORCH_INDEX" install -r /tmp/torch.txt
    else
        locked
    fi
    ;;
rest) others "$cuda|$torch" && locked ;;
all) others '^$' && locked ;;
mmcv) build_mmcv ;;
detection) others '^mmcv==' && locked && install "$more"/mmcv-*.whl ;;
project)
    printf 'carryover @ file://%s --hash=sha256:%s\n' "$given" "$more" >/tmp/chosen.lock
    locked
    mkdir -p /usr/share/carryover
    /tools/bin/uv pip freeze | sed 's| @ file:.*/\(.*\)$| @ \1|' >/usr/share/carryover/versions.txt
    ;;
*) echo "install.sh: no such kind of layer: $kind" >&2 && exit 2 ;;
esac
rm -f /tmp/chosen.lock /tmp/torch.txt
python3 /tools/compile.py
