# `make demo` and `make test` need only Python 3.11+ with venv and pip: the rest is set up in .venv, once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
LOCK   := requirements/all.lock

# Where this is set, as in many containers, every process would compile every module that it imports, and torch is large.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test lint type docs bench lock clean help

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1 \t/p' $(MAKEFILE_LIST)

$(READY): $(LOCK) requirements/bootstrap.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("histolatent needs Python 3.11 or newer, but %s is %d.%d. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" % (sys.executable, v[0], v[1]))'
	@test -x $(BIN)/python || { echo "Setting up $(VENV) (once; torch is large)"; $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --require-hashes $(LOCK)
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

setup: $(READY)  ## the environment in .venv, from the hash-pinned lock

demo: $(READY)  ## the main job on the embedded cohort: phantom, training, audit, report
	@$(BIN)/histolatent demo --out demo

test: $(READY)  ## every test that this machine can run
	@$(BIN)/python -m pytest -n 2

lint: $(READY)  ## style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

type: $(READY)  ## static types
	@$(BIN)/basedpyright

docs: $(READY)  ## the documentation site, strict, into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(READY)  ## every benchmark, quick mode, into benchmarks/results/
	@for f in benchmarks/[a-z]*.py; do echo "== $$f"; $(BIN)/python $$f --quick || exit 1; done

lock: $(READY)  ## resolve the lock files anew (names, versions and hashes; no addresses)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --upgrade --all-extras --group dev pyproject.toml -o $(LOCK)
	@echo uv | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --upgrade - -o requirements/bootstrap.lock

clean:  ## remove what the other targets made
	rm -rf $(VENV) site demo .pytest_cache .ruff_cache .hypothesis build dist
