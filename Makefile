# make demo      all eight stages on the embedded phantom cohort, on the CPU
# make test      the tests
# make example   the public example: one real volume with known truth
# make cluster   the workflow on a real Slurm, with faults; installs Debian's Slurm (as root)
# make browser   installs Debian's Chromium for the browser tests, where there is none (as root)
# make demo-model  trains resources/models/phantom-tiny anew (hours on a CPU)
# make container  the image for `--sdm apptainer`: msdsr.sif (VARIANT=cuda: for GPUs)
# make container-check  what the image is made from, linted and installed as in the Dockerfile
# make lint      the linters and the type checker
# make docs      the documentation, in site/
# make clean     removes what can be made again, but never results/
#
# Needs Python 3.11 or newer, git and make. Everything else goes into .venv, which is made once and
# reused until pyproject.toml or constraints.txt change. Paths are relative: the folder's own path
# may hold spaces.

.PHONY: help demo test example cluster browser demo-model container container-check lint docs clean
.DEFAULT_GOAL := help

STAMP := .venv/.msdsr
DOCS_STAMP := .venv/.msdsr-docs
PYTHON := .venv/bin/python
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SNAKEMAKE := $(PYTHON) -m snakemake
ARGS :=

# The rules call `msdsr` by its name.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# 3.11 first: the versions in constraints.txt were resolved for it.
PYTHONS := python3.11 python3.12 python3.13 python3
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))

# An environment does not survive a move of its folder, so the stamp says where it was made.
ifneq "$(shell cat $(STAMP) 2>/dev/null)" "$(CURDIR)"
.PHONY: $(STAMP)
endif

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

$(STAMP): pyproject.toml constraints.txt
	@if [ -e $(STAMP) ] && [ "$$(cat $(STAMP))" != "$$(pwd -P)" ]; then rm -rf .venv; fi
	@if ! $(PYTHON) -c '$(USABLE)' 2>/dev/null; then \
		for candidate in $(PYTHONS); do \
			if "$$candidate" -c '$(USABLE)' >/dev/null 2>&1; then found=$$candidate; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "make: no Python to be found: expected 3.11 or newer, with its venv module, as" \
				"one of $(PYTHONS); install one (Debian, Ubuntu: apt install python3-venv)" >&2; \
			exit 2; \
		fi; \
		echo "Making .venv with $$("$$found" --version)"; \
		"$$found" -m venv --clear .venv; \
	fi
	@echo "Installing MSDSR and what it needs into .venv: about 2 GB, once"
	@$(PIP) --editable '.[dev]'
	@pwd -P > $(STAMP)

$(DOCS_STAMP): $(STAMP)
	@$(PIP) --editable '.[docs]'
	@touch $(DOCS_STAMP)

demo: $(STAMP)
	$(SNAKEMAKE) $(ARGS) --profile profiles/local --configfile config/demo.yaml
	@echo "The report: $$(pwd)/results/demo/report/index.html"

example: $(STAMP)
	$(SNAKEMAKE) $(ARGS) --profile profiles/local --configfile config/example.yaml
	@echo "The report: $$(pwd)/results/blastocyst/report/index.html"

# The released demo model: trained on a synthetic cohort of other patients, and copied here.
demo-model: $(STAMP)
	$(SNAKEMAKE) results/models/phantom-tiny-source/model.json $(ARGS) \
		--profile profiles/local --configfile config/phantom-tiny.yaml
	rm -rf resources/models/phantom-tiny
	mkdir -p resources/models
	cp -R results/models/phantom-tiny-source/model resources/models/phantom-tiny
	rm -f resources/models/phantom-tiny/.snakemake_timestamp
	cp results/models/phantom-tiny-source/model.json resources/models/phantom-tiny/manifest.json

test: $(STAMP)
	$(PYTHON) -m pytest $(ARGS)

# A whole Slurm on this machine, started by the tests; Debian's own services of it are not used.
SLURM := slurmctld slurmd slurm-client munge
SLURM_TOOLS := slurmctld slurmd sbatch munged
cluster: $(STAMP)
	@for tool in $(SLURM_TOOLS); do \
		PATH="$$PATH:/usr/sbin" command -v $$tool >/dev/null 2>&1 || missing="$$missing $$tool"; \
	done; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then \
			echo "make: no$$missing to be found: expected Slurm's programs; install them" \
				"(Debian: apt install $(SLURM))" >&2; \
			exit 2; \
		fi; \
		echo "Installing Slurm"; \
		apt-get update -qq && \
			DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
			apt-get install -y -qq --no-install-recommends $(SLURM); \
	fi
	$(PYTHON) -m pytest tests/cluster $(ARGS)

# The tests of the report's pages need a browser; without one they are skipped, but not in CI.
BROWSERS := chromium chromium-browser google-chrome
browser:
	@for name in $(BROWSERS); do \
		if command -v $$name >/dev/null 2>&1; then echo "Browser: $$(command -v $$name)"; exit 0; fi; \
	done; \
	if [ "$$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then \
		echo "make: no browser to be found: expected one of $(BROWSERS); install Chromium" \
			"(Debian: apt install chromium)" >&2; \
		exit 2; \
	fi; \
	echo "Installing Chromium"; \
	apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium

VARIANT := cpu
# With Apptainer, the file that the rules look for; else, with Docker, an image of that name.
container:
	@if command -v apptainer >/dev/null 2>&1; then \
		apptainer build --build-arg variant=$(VARIANT) msdsr.sif container/msdsr.def; \
	elif command -v docker >/dev/null 2>&1; then \
		docker build --file container/Dockerfile --build-arg VARIANT=$(VARIANT) \
			--tag msdsr:$(VARIANT) .; \
	else \
		echo "make: neither apptainer nor docker to be found: expected one of them" >&2; exit 2; \
	fi

# torch comes from where pip is set up to look: the index of CPU builds is the image's own.
container-check: $(STAMP)
	.venv/bin/hadolint container/Dockerfile
	TORCH_INDEX= $(PYTHON) container/check.py

lint: $(STAMP)
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	.venv/bin/snakefmt --check workflow
	$(PYTHON) -m mypy --strict -p msdsr
	$(SNAKEMAKE) --lint

docs: $(DOCS_STAMP)
	$(PYTHON) -m mkdocs build --strict

clean:
	rm -rf .venv site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
