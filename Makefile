# STACK=openmmlab (default) or onedl; ARGS is passed on to the command of a target.
STACK ?= openmmlab
PYTHON ?=
FORCE ?=
ARGS ?=
VENV := $(if $(filter onedl,$(STACK)),.venv-onedl,.venv)
PY := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help env demo ops-demo test test-slow lint format docs dist bench zoo doctor clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Options: STACK=openmmlab|onedl  PYTHON=3.11  FORCE=1 (env)  ARGS='-k golden' (test, demo, ...)"

env:  ## create .venv with the tested stack; returns at once if it is up to date
	@python3 tools/env/make_env.py --stack '$(STACK)' --python '$(PYTHON)' $(if $(FORCE),--force)

demo: env  ## train and test Hi-Mapper on generated scenes, with pictures (minutes)
	@$(PY) tools/demo.py $(ARGS)

ops-demo:  ## embed a tree by the geometry alone: torch without OpenMMLab (a minute)
	@python3 tools/env/make_env.py --stack ops --python '$(PYTHON)' $(if $(FORCE),--force)
	@.venv-ops/bin/python tools/ops_demo.py $(ARGS)

# a worker a core, with one thread each: two threads on a busy core are slower than one; bytecode
# is kept, for the many processes that tests start
test: env  ## run the tests, but for the slow ones
	@PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) -m pytest -q -n auto --dist loadfile $(ARGS)

test-slow: env  ## run all tests
	@$(PY) -m pytest -q -m '' $(ARGS)

lint: env  ## check style, format and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: env  ## mend style and format
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

docs: env  ## write the documentation to docs/_build/html; a warning is an error
	@$(PY) -m sphinx -b html -q -W --keep-going docs docs/_build/html $(ARGS)

dist: env  ## build and check the distributions in dist/
	@$(PY) tools/env/check_dist.py $(ARGS)

bench: env  ## run all benchmarks: table, plot, history (ARGS=--quick: ten minutes)
	@$(PY) tools/benchmarks/run_all.py $(ARGS)

zoo: env  ## train the small checkpoints that no one can download (ARGS='--list': which, how long)
	@$(PY) tools/zoo.py $(ARGS)

doctor: env  ## tell what is installed and what is missing
	@$(PY) -m hyper_mm.doctor $(ARGS)

clean:  ## remove caches and build products (environments and work_dirs stay)
	@rm -rf build dist docs/_build *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find hyper_mm tools tests configs -name __pycache__ -type d -prune -exec rm -rf {} +
