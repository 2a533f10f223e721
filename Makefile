# make demo      set up, run the planted benchmark, write out/planted.duckdb and out/report/index.html
# make test      set up and run the tests;  make test-all: the slow ones too;  make test-long: those of half an hour
# make test-oldest   the same with the oldest versions that are supported, in an environment of its own
# make test-next     what hangs on lm_eval, with a development version of it
# make lint      ruff, and mypy --strict on the package as it is installed
#
# TORCH is what pip installs first, so that the caller chooses torch and where it comes from:
#   make test TORCH=torch==2.13.0
#   make test TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
TORCH  ?= torch
VENV   ?= .venv
OUT    ?= out
TESTS  ?= tests
# What is run with the oldest versions of everything too: the seam, the store, and what of the engine hangs on transformers.
OLDEST ?= $(addprefix tests/,harness store/test_store.py store/test_schema.py store/test_interruptions.py reports/test_queries.py evaluation house/test_plugin.py \
    house/test_settings.py commands/test_cli.py reports/test_pages.py lrp/test_refusals.py lrp/test_memory.py lrp/test_objectives.py)
NEXT   ?= $(addprefix tests/,harness/test_harness.py harness/test_seam.py harness/test_versions.py)

BIN     := $(abspath $(VENV))/bin
SOURCES := lm_eval_attrib lrp reports tasks
# One thread a worker: pytest-xdist starts a worker for each core.
PYTEST  := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

.PHONY: demo test test-all test-long test-oldest test-next lint setup clean FORCE

# The demo's model is so small that threads wait for each other longer than they work.
demo: setup
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/lm-eval-attrib demo --out $(OUT)

test: setup
	$(PYTEST) -m "not slow and not long" $(TESTS)

test-all: setup
	$(PYTEST) -m "not long" $(TESTS)

# Every decoder class of the installed transformers.
test-long: setup
	$(PYTEST) -m long $(TESTS)

test-oldest: $(VENV)-oldest/installed
	OMP_NUM_THREADS=1 $(VENV)-oldest/bin/pytest -n auto --dist worksteal -m "not slow and not long" $(OLDEST)

# What hangs on lm_eval, with one that is not released: make test-next LM_EVAL=PATH (a checkout), or LM_EVAL=git+https://…
LM_EVAL ?= git+https://github.com/EleutherAI/lm-evaluation-harness@v0.5.0.dev1
test-next: $(VENV)-next/installed
	OMP_NUM_THREADS=1 $(VENV)-next/bin/pytest -n auto --dist worksteal -m "not slow and not long" $(NEXT)

# Its development imports requests without saying so.
$(VENV)-next/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-next
	$(VENV)-next/bin/python -m pip install -q --disable-pip-version-check $(TORCH)
	$(VENV)-next/bin/python -m pip install -q --disable-pip-version-check \
	    'lm_eval[hf,ifeval] @ $(if $(wildcard $(LM_EVAL)),file://$(abspath $(LM_EVAL)),$(LM_EVAL))' requests
	$(VENV)-next/bin/python -m pip install -q --disable-pip-version-check -e '.[dev]' --config-settings editable_mode=strict
	@touch $@

$(VENV)-oldest/installed: tests/oldest.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install -q --disable-pip-version-check $(TORCH)
	$(VENV)-oldest/bin/python -m pip install -q --disable-pip-version-check -c tests/oldest.txt -e '.[dev]' \
	    --config-settings editable_mode=strict
	@touch $@

# mypy runs where no source folder lies, so that it reads the package under its import names, as installed.
lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd $(VENV) && $(BIN)/mypy --config-file $(abspath pyproject.toml) --cache-dir mypy-cache -p lm_eval_attrib

setup: $(VENV)/installed

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/torch: $(VENV)/bin/python $(VENV)/torch-wanted
	$(BIN)/python -m pip install -q --disable-pip-version-check $(TORCH)
	@touch $@

# A strict editable installation links file by file: it is made again when a file comes or goes.
$(VENV)/installed: $(VENV)/torch pyproject.toml $(VENV)/files
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]' --config-settings editable_mode=strict
	@touch $@

$(VENV)/torch-wanted: $(VENV)/bin/python FORCE
	@echo '$(TORCH)' | cmp -s - $@ || echo '$(TORCH)' > $@

$(VENV)/files: $(VENV)/bin/python FORCE
	@find $(SOURCES) -type f ! -name '*.pyc' | LC_ALL=C sort > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-next $(OUT) build *.egg-info

FORCE:
