# run: the sidecar in front of the demo portal    test: everything    check: lint, types, layers, shipped rules
# soak: faults, limits and the long run of docs/reliability.md, 40 minutes (ARGS=--short: three)
# image: with Docker    image-check: the steps of its Dockerfile without Docker (as root), its size and how fast it starts
# mutants: safeguards taken out one by one, the tests must notice; sbom: what is inside, as CycloneDX
# bench: the figures of docs/benchmarks.md, bench-full: with all workloads, half an hour    lock: pin the dependencies anew
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: run test check mutants sbom bench bench-full soak lock image image-check clean
.DEFAULT_GOAL := run

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "sidecache needs Python 3.11 or newer (set PYTHON=)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned dependencies into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: $(STAMP)
	@$(BIN)/sidecache demo $(ARGS)

# The tests in a browser need Debian's chromium, those of the stores its redis-server, those of the alerts the promtool of its
# prometheus, those of Amplify its nodejs, those of the image the strip of its binutils: installed when this is root, else those
# tests are skipped and say so. The servers are for the tests to start; Debian's services are kept from starting. Those of
# deploy/kubernetes need kubectl or kustomize, which Debian has only in versions that are too old: they are skipped without.
DEBIAN := /usr/bin/chromium /usr/bin/redis-server /usr/bin/prometheus /usr/bin/nodejs /usr/share/doc/binutils \
  /usr/bin/gcc /usr/share/doc/libc6-dev /usr/bin/curl

$(DEBIAN):
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing $(@F) ..."; \
	  apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
	    apt-get install -qq --no-install-recommends $(@F) >/dev/null || echo "$(@F) could not be installed"; \
	fi

test: $(STAMP) | $(DEBIAN)
	$(BIN)/pytest -n auto --dist worksteal $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/sidecache check rules.yaml --profile development --rules-only

mutants: $(STAMP)
	@$(BIN)/python -m tests.mutants $(ARGS)

sbom: $(STAMP)
	@$(BIN)/python deploy/sbom.py $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m bench $(ARGS)

bench-full: $(STAMP)
	$(BIN)/python -m bench --full $(ARGS)

soak: $(STAMP)
	$(BIN)/python -m soak $(ARGS)

image:
	docker build --tag sidecache:latest --build-arg VERSION=$$(sed -n 's/__version__ = "\(.*\)"/\1/p' proxy/__init__.py) \
	  --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) .

image-check: $(STAMP)
	$(BIN)/python -m tests.deploy.image $(ARGS)

# requirements-dev.lock has everything; the other two are parts of it, for the image: what runs, and what builds the wheel.
COMPILE = $(BIN)/uv pip compile --generate-hashes --no-emit-index-url --universal --no-header --quiet
lock: $(STAMP)
	$(COMPILE) pyproject.toml --extra dev --extra aws --extra otel --output-file requirements-dev.lock
	$(COMPILE) pyproject.toml --extra aws --extra otel --constraint requirements-dev.lock --output-file requirements.lock
	$(COMPILE) --group build --constraint requirements-dev.lock --output-file requirements-build.lock

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .import_linter_cache .hypothesis .pytest_cache bench/results soak/results
