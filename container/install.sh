#!/bin/sh
# Installs MSDSR into $PREFIX: the one recipe of Dockerfile, msdsr.def and `make container-check`.
#
#   install.sh dependencies   a virtual environment with the versions of constraints.txt
#   install.sh package        MSDSR itself, from the sources in the working directory
#
# VARIANT=cpu takes torch from PyTorch's own index of CPU builds, without gigabytes of CUDA.
# VARIANT=cuda takes the build of PyPI, which brings its CUDA libraries with it: the machine needs
# only a driver. For an older driver, TORCH_INDEX names another index of PyTorch.
set -eu
: "${PREFIX:=/opt/msdsr}"
: "${VARIANT:=cpu}"
: "${PYTHON:=python3}"

case "$VARIANT" in
cpu) : "${TORCH_INDEX=https://download.pytorch.org/whl/cpu}" ;;
cuda) : "${TORCH_INDEX=}" ;;
*)
    echo "install.sh: VARIANT=$VARIANT; expected cpu or cuda" >&2
    exit 2
    ;;
esac

pip_install() {
    "$PREFIX/bin/python" -m pip install --no-cache-dir --disable-pip-version-check \
        --constraint constraints.txt "$@"
}

case "${1:-}" in
dependencies)
    "$PYTHON" -m venv "$PREFIX"
    # torch first and alone: nothing else may come from its index.
    pip_install --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
    "$PREFIX/bin/python" - > "$PREFIX/requirements.txt" << 'PYTHON'
import tomllib

with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["project"]["dependencies"], sep="\n")
PYTHON
    pip_install --requirement "$PREFIX/requirements.txt" setuptools
    ;;
package)
    pip_install --no-deps --no-build-isolation .
    "$PREFIX/bin/python" -m pip check
    "$PREFIX/bin/msdsr" --version
    ;;
*)
    echo "install.sh: expected one of: dependencies, package" >&2
    exit 2
    ;;
esac
