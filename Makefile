# Two commands do everything on a fresh machine: `make race` and `make test`.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin

SOURCES := $(shell find src -name '*.pyx' -o -name '*.pxd')

.PHONY: help setup build race test interop verify checked-test lint types bench clean
.DEFAULT_GOAL := help

help:
	@echo "make setup   prepare .venv with .venv/bin/dragoman"
	@echo "make race    set up and run the race: the whole chain under load, with a real etcd"
	@echo "make test    set up and run every test, the linter and the type checker"
	@echo "make interop real Dubbo in Java beside the agents and the SDK: the matrix of docs/interop.md"
	@echo "make verify  the long runs: fuzzing, crash cycles, soak"
	@echo "make bench   dragoman beside the programs one would use instead"
	@echo "make clean   remove what was built"

setup: $(VENV)/.built

$(VENV)/.installed: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "dragoman needs Python 3.11: set PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q 'setuptools>=77' 'Cython>=3.1,<4'
	DRAGOMAN_EXTENSIONS=0 $(BIN)/python -m pip install -q --no-build-isolation -e '.[dev]'
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
	$(BIN)/python -m pytest -m 'not slow'

# Java programs of three releases of Dubbo, built with Maven; `--docs` rewrites the page's tables.
interop: setup
	$(BIN)/python -m interop --json interop-result.json $(INTEROP)

verify: setup
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m fuzz.http --seconds 300
	$(BIN)/python -m fuzz.dubbo --seconds 300
	$(BIN)/python -m fuzz.calls --seconds 300
	$(BIN)/python -m fuzz.hessian2 --seconds 300
	$(BIN)/python -m fuzz.fastjson2 --seconds 300
	$(BIN)/python -m fuzz.mesh --seconds 300
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
