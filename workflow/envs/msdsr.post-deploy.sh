#!/usr/bin/env bash
# Adds MSDSR itself to the environment that Snakemake made from msdsr.yaml. Snakemake runs this in
# the working directory, which for `--sdm conda` must be the clone.
set -euo pipefail
python -m pip install --no-deps .
