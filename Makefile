# 园联 Yuanlian. Needs Python >= 3.11, make and network access to a package registry; nothing else.
#   make PYTHON=python3.12 …   picks another interpreter

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help up up-distributed servers test lint fmt lock bench-gateway bench-checkin bench-realtime bench-cache bench-bus clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(STAMP) ## the whole platform with demo data, on http://127.0.0.1:8080
	@exec $(BIN)/yuanlian up --demo

up-distributed: $(STAMP) ## the same, every part a process of its own, over MariaDB, RabbitMQ and Redis
	@exec $(BIN)/python -m deploy.distributed $(ARGS)

servers: $(STAMP) ## MariaDB, RabbitMQ and Redis from Debian's packages, in var/distributed/servers
	@exec $(BIN)/python -m deploy.distributed --servers-only

test: $(STAMP) ## every test that can run here; says how many were skipped and why
	@$(BIN)/python -m pytest --numprocesses 3 --dist loadfile $(ARGS)

lint: $(STAMP) ## ruff, mypy (strict), import-linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(STAMP) ## formats the code and sorts its imports
	$(BIN)/ruff check --select I --fix
	$(BIN)/ruff format

lock: $(STAMP) ## writes the three locks anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --upgrade --quiet \
		--no-header --no-annotate pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --upgrade --quiet \
		--no-header --no-annotate --extra dev pyproject.toml -o requirements-dev.lock
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --upgrade --quiet \
		--no-header --no-annotate - -o deploy/build-requirements.lock

bench-gateway: $(STAMP) ## the gateway beside nginx, Envoy, Traefik and Express; ARGS="--quick" takes 90 s
	@$(BIN)/python -m bench.bench_gateway $(ARGS)

bench-checkin: $(STAMP) ## durable check-ins per second, beside the usual way; SHAPE=distributed: over servers
	@$(BIN)/python -m bench.bench_checkin $(if $(SHAPE),--shape $(SHAPE)) $(ARGS)

bench-realtime: $(STAMP) ## board deliveries per second
	@$(BIN)/python -m bench.bench_realtime $(ARGS)

bench-cache: $(STAMP) ## what a cached value costs, in memory and over Redis
	@$(BIN)/python -m bench.bench_cache $(ARGS)

bench-bus: $(STAMP) ## messages per second through outbox, relay and bus; ARGS="--rabbitmq": beside aio-pika
	@$(BIN)/python -m bench.bench_bus $(ARGS)

clean: ## removes the environment and every cache; leaves data directories alone
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One environment for running and for testing: `make up` and `make test` then never undo each other's
# work. A production image installs requirements.lock alone.
$(STAMP): pyproject.toml requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed, $(PYTHON) is: $$($(PYTHON) --version 2>&1 || true)."; \
		echo "Say which one to take: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); } || { \
		echo "The venv module is missing (Debian: apt-get install python3-venv)."; exit 1; }
	@echo "Installing from requirements-dev.lock …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
