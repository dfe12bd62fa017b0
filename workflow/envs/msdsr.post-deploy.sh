#!/usr/bin/env bash
# Adds MSDSR itself to the environment that Snakemake made from msdsr.yaml. Snakemake runs this in
# the working directory. Where that is a clone, MSDSR comes from it; anywhere else (the workflow
# deployed as a module), MSDSR_SOURCE says where from: a folder, a wheel, or git+https://...@TAG.
set -euo pipefail
source="${MSDSR_SOURCE:-}"
if [ -z "$source" ]; then
    if grep -qs '^name = "msdsr"$' pyproject.toml; then
        source=.
    else
        echo "msdsr: $PWD is no clone of MSDSR; set MSDSR_SOURCE to a folder, a wheel or" \
            "git+https://...@TAG, of the same version as the workflow" >&2
        exit 2
    fi
fi
python -m pip install --no-deps "$source"
