# One command each; every target installs what it needs into .venv first. Debian, Python 3.11 or later.
#
#   make demo          the whole system on simulated accounts (make demo ARGS=--once ends by itself)
#   make run           the gateway with ./config.toml (ARGS=... are passed to serve)
#   make check         format, lint, types, layers, fast tests
#   make test          check, then everything: real servers and real clients (as root it installs what it needs)
#   make bench         the benchmarks and their report
#   make lock          new lock files from pyproject.toml

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Debian's own interpreter is built with profile-guided optimisation and costs about a fifth less CPU than one built
# without; another python3 does where it is missing or has no venv.
PYTHON ?= $(firstword $(shell for one in /usr/bin/python3 python3; do \
    "$$one" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$one"; done) python3)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Tests that start servers share two cores badly: a few at a time.
TEST_WORKERS ?= 2

RUN_HASH := $(firstword $(shell cat requirements.lock pyproject.toml | sha256sum))
DEV_HASH := $(firstword $(shell cat requirements-dev.lock pyproject.toml | sha256sum))
RUN_STAMP := $(VENV)/.run-$(RUN_HASH)
DEV_STAMP := $(VENV)/.dev-$(DEV_HASH)
LOCK_OPTIONS := --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

SYSTEM_PACKAGES := nginx libnginx-mod-http-lua redis-server docker.io debootstrap curl gcc iptables procps chromium

.PHONY: help venv dev demo run check static fast test bench docs lock system-deps clean

help:
	@sed -n '/^#   make/s/^#   //p' Makefile

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The project itself is put on the path and needs no build step; the command is three lines of Python.
define link_project
	echo '$(CURDIR)' > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/codex-relay.pth"
	printf '#!%s\nimport sys\nfrom ops.cli import main\nsys.exit(main())\n' '$(CURDIR)/$(BIN)/python' > $(BIN)/codex-relay
	chmod +x $(BIN)/codex-relay
endef

$(RUN_STAMP): | $(BIN)/python
	$(PIP) install --require-hashes -r requirements.lock
	$(link_project)
	rm -f $(VENV)/.run-* && touch $@

# The development lock holds the same versions and more, so it serves both.
$(DEV_STAMP): | $(BIN)/python
	$(PIP) install --require-hashes -r requirements-dev.lock
	$(link_project)
	rm -f $(VENV)/.dev-* $(VENV)/.run-* && touch $@ $(RUN_STAMP)

venv: $(RUN_STAMP)

dev: $(DEV_STAMP)

demo: venv
	$(BIN)/codex-relay demo $(ARGS)

run: venv
	$(BIN)/codex-relay serve $(ARGS)

static: dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fast: dev
	$(BIN)/pytest -n $(TEST_WORKERS) -m "not slow" $(ARGS)

check: static fast

test: system-deps static
	$(BIN)/pytest -n $(TEST_WORKERS) --dist loadgroup $(ARGS)

bench: dev
	$(BIN)/python benchmarks/run.py $(ARGS)

# What is generated from the source: the example configuration and two reference pages.
docs: dev
	$(BIN)/python -m ops.config_docs

# For every platform and Python from 3.11 on; what is locked stays unless pyproject.toml asks for more
# (ARGS=--upgrade takes the newest, ARGS="--upgrade --exclude-newer DATE" those that have been out for a while).
lock:
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.8
	.venv-lock/bin/uv pip compile $(LOCK_OPTIONS) $(ARGS) --output-file requirements.lock pyproject.toml
	.venv-lock/bin/uv pip compile $(LOCK_OPTIONS) $(ARGS) --extra dev --constraint requirements.lock \
	    --output-file requirements-dev.lock pyproject.toml
	rm -rf .venv-lock

# What the slow tests run against. Quick when all is there; services that packages bring are not started.
system-deps:
	@missing=""; \
	for package in $(SYSTEM_PACKAGES); do \
	    dpkg-query -W -f '$${db:Status-Status}' "$$package" 2>/dev/null | grep -qx installed || missing="$$missing $$package"; \
	done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then echo "not root; tests that need these packages are skipped:$$missing" >&2; exit 0; fi; \
	export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
	apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing

clean:
	rm -rf $(VENV) .venv-lock .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info
