#!/bin/sh
# Installs brainage into a virtual environment: the image's own steps, and the same without an engine.
#   deploy/install.sh TARGET [TORCH_INDEX]
# TORCH_INDEX: https://download.pytorch.org/whl/cpu has no CUDA (the default); https://pypi.org/simple
# has it; an empty word takes pip's own configuration.
set -eu
target=$1
index=${2-https://download.pytorch.org/whl/cpu}
source=$(cd "$(dirname "$0")/.." && pwd)

python3 -m venv "$target"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Versions that were tested together; torch first, since its index decides between CPU and CUDA.
torch=$(grep '^torch==' "$source/deploy/constraints.txt")
"$target/bin/pip" install --quiet ${index:+--index-url "$index"} "$torch"
"$target/bin/pip" install --quiet --constraint "$source/deploy/constraints.txt" "$source[server]"
"$target/bin/pip" check
"$target/bin/brainage" --version
