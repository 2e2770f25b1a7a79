#!/bin/sh
# Installs brainage into a virtual environment: the image's own steps, and the same without an engine.
#   deploy/install.sh TARGET [TORCH_INDEX]
# TORCH_INDEX: https://download.pytorch.org/whl/cpu has no CUDA (the default); https://pypi.org/simple
# has it; an empty word takes pip's own configuration.
set -eu
target=$1
index=${2-https://download.pytorch.org/whl/cpu}
source=$(cd "$(dirname "$0")/.." && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
locked() { "$1/bin/pip" install --quiet --no-deps --require-hashes --requirement "$source/deploy/$2"; }

python3 -m venv "$target"
# Torch first and by version only: its index decides between CPU and CUDA, and so between files.
"$target/bin/pip" install --quiet ${index:+--index-url "$index"} --requirement "$source/deploy/torch.txt"
locked "$target" lock.txt
# What builds the package is locked too, and stays out of the target.
python3 -m venv "$build"
locked "$build" lock-build.txt
"$build/bin/pip" wheel --quiet --no-deps --no-build-isolation --wheel-dir "$build" "$source"
"$target/bin/pip" install --quiet --no-deps "$build"/brainage-*.whl
"$target/bin/pip" check
"$target/bin/brainage" --version
