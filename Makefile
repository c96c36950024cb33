# Everything on a fresh machine: `make demo` and `make test` need python3 >= 3.10 and make, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# The tests start many processes, which would otherwise compile every module again.
export PYTHONDONTWRITEBYTECODE :=

# Neighboring tests stay on one worker, so that fixtures of a module are made once; idle workers take over the rest of the longest queue.
PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 16 --dist worksteal
NUMERIC := $(addprefix tests/,decoders layers quantizers parity/test_selftok.py parity/test_tokenbridge.py)

.PHONY: demo test portability lint slow fuzz leaderboard clean

demo: $(VENV)/.demo
	$(BIN)/visiontok demo

test: lint
	$(PYTEST)

# Numbers must not depend on the instruction set or the number of threads.
portability: $(VENV)/.dev
	ATEN_CPU_CAPABILITY=default $(PYTEST) $(NUMERIC)
	ATEN_CPU_CAPABILITY=avx2 $(PYTEST) $(NUMERIC)
	OMP_NUM_THREADS=2 MKL_NUM_THREADS=2 $(PYTEST) $(NUMERIC)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

# Damaged inputs of every reader: `make fuzz SECONDS=600 SEED=7`, `make fuzz ENTRY=tar-shards`; CASE=12 reads one input again.
SECONDS ?= 3600
SEED ?= 1
fuzz: $(VENV)/.dev
	PYTHONPATH=tests/fuzz:tests $(BIN)/python -m fuzzing --seconds $(SECONDS) --seed $(SEED) $(if $(ENTRY),--entry $(ENTRY)) $(if $(CASE),--case $(CASE))

leaderboard: $(VENV)/.demo
	$(BIN)/visiontok leaderboard

clean:
	rm -rf $(VENV) demo runs fuzz-failures .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "visiontok needs Python 3.10 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)

# Two stamps, so that the demo does not wait for the tools of the developers.
$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@
