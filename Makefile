# The versions of Python that requirements.lock is for; the first one that is here is taken.
PYTHONS := 3.11
version_of = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
is_right = $(filter $(PYTHONS),$(call version_of,$(1)))
ifeq ($(origin PYTHON),undefined)
PYTHON := $(firstword $(foreach name,$(PYTHONS:%=python%) python3,$(if $(call is_right,$(name)),$(name))) python3)
endif
VENV := .venv
RUN := $(VENV)/bin

# Without bytecode every import of the machine-learning stack takes half a minute. A module's first import writes it; to
# compile them all, most of which are never imported, would take pip more than a minute.
unexport PYTHONDONTWRITEBYTECODE
# The tests and the ladder never need a network.
export HF_HUB_OFFLINE = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-cluster lint format docs ladder

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: $(VENV)/.installed  ## make the environment with the locked versions

$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(call is_right,$(PYTHON))" || { \
		echo "The locked versions need Python $(PYTHONS), and $(PYTHON) is $(or $(call version_of,$(PYTHON)),not there)."; \
		echo "Get it: apt install python3.11-venv (Debian 12), brew install python@3.11, uv python install 3.11," \
			"or https://www.python.org/downloads/"; \
		echo "If it has another name then: make setup PYTHON=/path/to/python3.11"; exit 1; } >&2
	$(PYTHON) -m venv $(VENV)
	$(RUN)/pip install --quiet --disable-pip-version-check --no-compile --no-deps -r requirements.lock
	$(RUN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

DEMO := results/studies/demo

demo: setup  ## a small study of the ladder, from quantization to the report (minutes)
	$(RUN)/snakemake --profile profiles/demo
	$(RUN)/snakemake --profile profiles/demo --report $(DEMO)/report.html --quiet all
	$(RUN)/stratalaw show $(DEMO)/laws.json
	@echo "The report is $(CURDIR)/$(DEMO)/report.html"

test: setup  ## run all tests
	$(RUN)/pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder

SLURM_PACKAGES := munge slurmctld slurmd slurm-client

test-cluster: setup  ## run the tests on a real Slurm, installed and started for them (Debian, root)
	@if [ "$$(id -u)" != 0 ]; then echo "test-cluster: skipped: starting Slurm needs root"; \
	elif ! command -v apt-get >/dev/null; then echo "test-cluster: skipped: Slurm is installed with apt-get"; \
	elif ! $(MAKE) --no-print-directory .slurm-packages; then \
		echo "test-cluster: skipped: apt-get cannot install $(SLURM_PACKAGES)"; \
	else $(MAKE) --no-print-directory .test-cluster; fi

.PHONY: .slurm-packages .test-cluster
.slurm-packages:
	dpkg --status $(SLURM_PACKAGES) >/dev/null 2>&1 || { apt-get update --quiet=2 && \
		DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --no-install-recommends $(SLURM_PACKAGES); }

SELECT ?= test

# Most of the time jobs wait to be submitted, so more tests run at once than there are cores.
.test-cluster:
	tests/cluster/slurm start
	$(RUN)/pytest tests/cluster -k "$(SELECT)" --numprocesses 5 --dist worksteal; status=$$?; tests/cluster/slurm stop; exit $$status

lint: setup  ## check style, types, the floors of the imports, and common errors
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/lint-imports --no-cache
	$(RUN)/python tests/structure.py
	$(RUN)/mypy
	$(RUN)/snakefmt --check .
	$(RUN)/snakemake --lint --configfile config/demo.yaml

format: setup  ## fix what lint can fix automatically
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .
	$(RUN)/snakefmt .

docs: setup  ## build the documentation, warnings as errors: site/index.html opens without a network
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --quiet --strict

ladder: setup  ## train the ladder anew (minutes on several GPUs) and put the best run of each rung in its place
	$(RUN)/python -m ladder.train_all
	$(RUN)/python -m ladder.publish
	$(RUN)/python -m ladder.release
