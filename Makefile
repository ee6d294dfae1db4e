# Every command of the project; `make help` lists them. They need Python 3.11-3.13 and make, nothing else.
.DEFAULT_GOAL := help
.SUFFIXES:

python := .venv/bin/python
ready := .venv/.ready
# Tests, demo and benchmarks refuse every connection that is not loopback, in child processes as well.
guarded := PYTHONPATH="$(CURDIR)/tests/guard"

$(ready): requirements-dev.lock pyproject.toml .ci/environment
	@sh .ci/environment

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)$$/make \1\t\2/p' Makefile | expand -t 14

.PHONY: demo
demo: $(ready) ## backfill from a simulated market into the embedded store: no account, no network
	@$(guarded) $(python) -m mystocks_ingest demo

.PHONY: test
test: $(ready) ## every test but the long proofs
	@sh tests/servers/install.sh
	@$(guarded) $(python) -m pytest -q -m "not long" -n 4 --dist worksteal

.PHONY: check
check: $(ready) ## lint, format, types, import rules, dead links in the docs
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .
	@$(python) -m mypy
	@.venv/bin/lint-imports
	@$(python) docs/links.py

.PHONY: bench
bench: $(ready) ## benchmarks as ratios; ONLY=word runs those whose name has the word
	@$(guarded) $(python) -m bench $(ONLY)

.PHONY: chaos
chaos: $(ready) ## the long proofs: kill -9 of the program, its lanes and each database server, at random moments
	@$(guarded) $(python) -m pytest -q -s -m long tests/chaos/test_kills.py tests/chaos/test_servers.py tests/chaos/test_schema_kills.py

.PHONY: kills
kills: $(ready) ## the long proof of the service: kill -9 under load, 100 times; SIGTERM with a database away
	@$(guarded) $(python) -m pytest -q -s -m long tests/chaos/test_service_kills.py

.PHONY: soak
soak: $(ready) ## ten times the load for half an hour (SOAK_SECONDS): memory, files, threads, processes
	@$(guarded) $(python) -m pytest -q -s -m long tests/chaos/test_soak.py

.PHONY: faults
faults: $(ready) ## every fault of every vendor: outcome, seconds, rows stored, rows wrong; a table
	@$(guarded) $(python) -m pytest -q -s -m long tests/chaos/test_fault_matrix.py

.PHONY: outages
outages: $(ready) ## each database and vendor stopped, hung, slowed, answering errors; disk, spool, clock, names; ONLY=word; a table
	@sh tests/servers/install.sh
	@$(guarded) ONLY="$(ONLY)" $(python) -m pytest -q -s -m long tests/chaos/test_outage_matrix.py tests/daemon/test_spool_full.py

.PHONY: deliveries
deliveries: $(ready) ## the long proofs of both ways in: Redis streams and HTTP, killed between durable and acknowledged
	@$(guarded) $(python) -m pytest -q -s -m long tests/daemon/test_deliveries.py

.PHONY: health
health: $(ready) ## health and alerts of the real service: each rule fires and recovers, a database away, every vendor down
	@$(guarded) $(python) -m pytest -q -s --durations=0 tests/daemon/test_alert_stories.py tests/daemon/test_health_states.py

.PHONY: day
day: $(ready) ## a simulated trading day at 60 times the speed, with two kills: what was shown, what is stored, in one store and in four databases; a table, a quarter of an hour
	@$(guarded) $(python) -m pytest -q -s -m long tests/daemon/test_trading_day.py

.PHONY: docs
docs: $(ready) ## write docs/datasets.md and config/tables.schema.json anew
	@$(python) docs/generate.py

.PHONY: lock
lock: $(ready) ## resolve the dependencies anew into the hashed lock files
	@sh .ci/lock

.PHONY: clean
clean: ## remove the environment and the caches; data under var/ stays
	@rm -rf .venv .venv-uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
