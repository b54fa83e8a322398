# make demo    everything from nothing: environment, then the main job; prints where the results are
# make test    the same set-up where it is missing, then the tests
# make check   ruff, mypy, import boundaries
.DEFAULT_GOAL := help
.PHONY: help environment demo test test-fast check format docs docs-answers site bench-fold bench-train bench-gpu bench-score bench-reasons experiment lock clean
SHELL := /bin/bash
python := .venv/bin/python
# Ranks and Spark's workers import the same modules again and again: let Python keep their bytecode.
unexport PYTHONDONTWRITEBYTECODE

help: ## these lines
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

environment: ## .venv from the pinned files, Horovod's wheel and Delta's jars (cached under ~/.cache/lbsf)
	@bash conf/environment/create_environment.sh

demo: environment ## the main job on simulated payments, from raw files to a queried score table
	@$(python) jobs/demo.py

test: environment ## all tests, and the examples in docstrings; two files at a time, fast ones first
	@$(python) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --doctest-modules lbsf tests/unit tests/jobs tests/parallel

test-fast: environment ## the tests that start neither Spark nor training ranks, about a minute
	@$(python) -m pytest -n 2 --dist load -m "not spark and not ranks" --doctest-modules lbsf tests/unit

check: environment ## ruff, mypy, import boundaries
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache

format: environment ## ruff's fixes and layout
	@.venv/bin/ruff check --fix . && .venv/bin/ruff format .

docs: environment ## docs/tables.md from the schemas, the views in docs/analysts.md from conf/views
	@$(python) -m lbsf.schemas.document docs/tables.md
	@$(python) -m lbsf.analysts.document conf/views docs/analysts.md

docs-answers: environment ## the answers in docs/analysts.md, from the demo's warehouse; ARGS="--set storage.root=DIR"
	@$(python) jobs/answer_queries.py --document docs/analysts.md $(ARGS)

site: environment ## the documentation site, built offline into build/site; a warning is an error
	@NO_MKDOCS_2_WARNING=1 $(python) -m mkdocs build --quiet && echo build/site/index.html

bench-fold: environment ## the fold against Spark, DuckDB and Polars; ARGS="--payments 10000000 --repeat 3", or --help
	@$(python) -m benchmarks.fold $(ARGS)

bench-train: environment ## training against pytorch-lifestream, padding, full attention; ARGS="--parts ranks", or --help
	@$(python) -m benchmarks.train $(ARGS)

bench-gpu: environment ## training and scoring on an NVIDIA GPU; ARGS="--parts steps", or --help
	@$(python) -m benchmarks.gpu $(ARGS)

bench-score: environment ## scoring through Spark against a bare torch loop; ARGS="--users 20000", or --help
	@$(python) -m benchmarks.score $(ARGS)

bench-reasons: environment ## deletion tests of the champion's reasons; ARGS="--users 500", or --help
	@$(python) -m benchmarks.reasons $(ARGS)

experiment: environment ## LBSF and its baselines by length of history; ARGS="--seeds 1" (two hours instead of three), or --help
	@$(python) -m benchmarks.experiment $(ARGS)

lock: environment ## renew the pinned requirement files
	@bash conf/environment/lock.sh

clean: ## remove the environment and the demo's warehouse
	rm -rf .venv warehouse build dist *.egg-info
