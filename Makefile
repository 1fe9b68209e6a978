# Two commands do everything on a fresh machine: `make race` and `make test`.
# Any Python from 3.11 up; 3.11 before others, since it is what releases are measured with.
PYTHON ?= $(shell for each in python3.11 python3 python3.12 python3.13 python3.14; do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$each" && break; done)
VENV   := .venv
BIN    := $(VENV)/bin
# What `make setup` installs: each package in one version, with hashes, and no address of an index.
LOCKED := requirements/locked.txt
UV     := build/lock/bin/uv
PIN    := pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command 'make lock' --extra dev --upgrade pyproject.toml

# Codecs, balancing and flow control whole; of each other room what goes through most of it and
# starts no agent, registry or Java: the longest case lasts three seconds.
FAST := tests/wire tests/conformance tests/balance tests/flow tests/observe/test_histogram.py \
	$(addprefix tests/,$(addsuffix .py,test_architecture test_errors test_reasons test_reprs \
	test_signatures test_stopping test_tables test_timers test_waiting test_documented_formats \
	agent/test_config agent/test_contract cluster/test_peers cluster/test_pool_order \
	cluster/test_selection cluster/test_service cluster/test_service_model dubbo/client/test_client \
	dubbo/client/test_values dubbo/server/test_calls dubbo/types/test_declaration \
	dubbo/upstream/test_departure dubbo/upstream/test_transcoder queue/api/test_model \
	queue/api/test_store queue/recovery/test_repair registry/test_dubbo_url registry/test_urls \
	rpc/test_calling rpc/test_metadata \
	rpc/test_service_arguments rpc/test_service_declarations rpc/test_services rpc/test_session_calls \
	rpc/test_session_violations))

SOURCES := $(shell find src -name '*.pyx' -o -name '*.pxd')

.PHONY: help setup build race test test-fast test-newest lock interop verify checked-test lint types bench clean
.DEFAULT_GOAL := help

help:
	@echo "make setup   prepare .venv with .venv/bin/dragoman"
	@echo "make race    set up and run the race: the whole chain under load, with a real etcd"
	@echo "make test    set up and run every test, the linter and the type checker; tells the 20 slowest"
	@echo "make test-fast   what a change most likely breaks, linter and types too: under two minutes"
	@echo "make test-newest   what touches dependencies, on the newest versions that the ranges allow"
	@echo "make lock    renew requirements/locked.txt, which setup installs from"
	@echo "make interop real Dubbo in Java beside the agents and the SDK: the matrix of docs/interop.md"
	@echo "make verify  the long runs: fuzzing, crash cycles, soak"
	@echo "make bench   dragoman beside the programs one would use instead"
	@echo "make clean   remove what was built"

setup: $(VENV)/.built

$(VENV)/.installed: pyproject.toml $(LOCKED)
	@test -n "$(PYTHON)" || { echo "dragoman needs Python 3.11 or newer: set PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install -q --require-hashes -r $(LOCKED)
	DRAGOMAN_EXTENSIONS=0 $(BIN)/python -m pip install -q --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.built: $(VENV)/.installed setup.py $(SOURCES)
	$(BIN)/python setup.py -q build_ext --inplace
	@touch $@

build: $(VENV)/.built

race: setup
	$(BIN)/dragoman race --connections 64,128,256,512 --duration 10 --json race-result.json

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

test: setup lint types
	$(BIN)/python -m pytest -m 'not slow' --durations=20

test-fast: setup lint types
	$(BIN)/python -m pytest -m 'not slow' $(FAST)

$(UV):
	"$(PYTHON)" -m venv build/lock
	build/lock/bin/python -m pip install -q 'uv>=0.5'

lock: $(UV)
	$(UV) $(PIN) -o $(LOCKED)

# Tells what a user who installs today gets beside what we locked. Says so and ends where that is the same.
test-newest: setup $(UV)
	$(UV) $(PIN) -o build/newest.txt
	$(BIN)/python -m requirements.newest $(LOCKED) build/newest.txt

# Java programs of three releases of Dubbo, built with Maven; `--docs` rewrites the page's tables.
interop: setup
	$(BIN)/python -m interop --json interop-result.json $(INTEROP)

verify: setup
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m fuzz.http --seconds 300
	$(BIN)/python -m fuzz.dubbo --seconds 300
	$(BIN)/python -m fuzz.calls --seconds 300
	$(BIN)/python -m fuzz.large --seconds 300
	$(BIN)/python -m fuzz.costs --seconds 300
	$(BIN)/python -m fuzz.hessian2 --seconds 300
	$(BIN)/python -m fuzz.fastjson2 --seconds 300
	$(BIN)/python -m fuzz.mesh --seconds 300
	$(BIN)/python -m fuzz.links --seconds 300
	$(BIN)/python -m fuzz.registry --seconds 300
	$(BIN)/python -m fuzz.rpc --seconds 300
	$(MAKE) checked-test

bench: setup
	$(BIN)/python -m benchmarks.agents
	$(BIN)/dragoman bench rpc --peers

# The same tests on extensions with bounds checks, built into a copy so that the fast ones stay.
checked-test: setup
	rm -rf build/checked && mkdir -p build/checked
	cp -r src tests fuzz benchmarks setup.py pyproject.toml README.md LICENSE build/checked/
	find build/checked/src \( -name '*.so' -o -name '*.c' \) -delete
	cd build/checked && DRAGOMAN_CHECKED=1 ../../$(BIN)/python setup.py -q build_ext --inplace
	cd build/checked && PYTHONPATH=src ../../$(BIN)/python -m pytest -m 'not slow' tests/wire tests/rpc tests/flow tests/balance tests/cluster

clean:
	rm -rf build src/*.egg-info
	find src \( -name '*.so' -o -name '*.c' -o -name '*.html' \) -delete
	rm -rf $(VENV)
