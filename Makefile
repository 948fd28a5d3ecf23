# Two commands matter: `make demo` and `make test`. Each makes .venv and installs the project on first use.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEV    := $(VENV)/.installed-dev
ARGS   ?=
# The tests of a file stay together, since they share what is slow to make; a thread each, or processes would wait for each other;
# and what one process has compiled, the many that the tests start need not compile again.
JOBS   ?= -n auto --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-long test-latest lint format docs bench clean

demo: $(STAMP)
	$(BIN)/ganatomy demo $(ARGS)

test: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(JOBS) $(ARGS)

# What `make test` shortens, in full: half an hour.
test-long: $(DEV)
	GANATOMY_LONG=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(JOBS) $(LONG)
LONG := tests/test_acceptance.py tests/test_durable.py tests/test_families_damage.py tests/test_formats_fuzz.py

# The same tests against whatever is newest today, without the dated constraints.
test-latest:
	$(MAKE) test VENV=.venv-latest CONSTRAINTS=

lint: $(DEV)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

docs: $(DEV)
	PYTHONPATH=. $(BIN)/python tools/commands.py

bench: $(DEV)
	$(BIN)/python benchmarks/pass_cost.py $(ARGS)
	$(BIN)/python benchmarks/table.py

$(VENV)/bin/python:
	@sh tools/check-machine.sh "$(PYTHON)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(STAMP): pyproject.toml | $(VENV)/bin/python
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet -e .
	@touch $@

# `make test` installs with dated constraints for the tools that judge the code; torch and torchvision stay free.
CONSTRAINTS ?= -c constraints-2026-11.txt
$(DEV): pyproject.toml constraints-2026-11.txt | $(VENV)/bin/python
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet -e '.[dev]' $(CONSTRAINTS)
	@touch $@ $(STAMP)

clean:
	rm -rf $(VENV) .venv-latest .pytest_cache .ruff_cache
