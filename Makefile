# LeadersBoard. The two that matter: `make run` and `make test`. Everything they need is made under var/.
PYTHON ?= python3
PORT ?= 8010
DEMO ?= 1
# Test processes: as many as there are cores, at least 2, at most 4 (they share one set of servers).
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -lt 2 ] && n=2; [ $$n -gt 4 ] && n=4; echo $$n)
# More arguments for pytest: make test ARGS="-k archive -x"
ARGS ?=
UV ?= uv

ENVIRONMENTS := $(PYTHON) -m leaderboard_site.embedded.environments
MADE := $(or $(LEADERSBOARD_ENVIRONMENTS),var/env)
LOCAL := $(MADE)/local/bin/python
DEV := $(MADE)/dev/bin/python
# The CPU build is a third of the size; name `worker` to have CUDA's all the same.
WORKER_ENVIRONMENT ?= $(shell test -e /dev/nvidiactl && echo worker || echo worker-cpu)
REQUIREMENTS := web local dev mlflow runner worker bench deploy
# What a production site is given; `check` looks at the settings as they are then.
PRODUCTION := DATABASE_URL=postgresql://site@db.invalid/site REDIS_URL=redis://redis.invalid:6379/0 \
	MLFLOW_TRACKING_URI=http://mlflow.invalid:5010 ALLOWED_HOSTS=site.invalid SITE_URL=https://site.invalid \
	SECRET_KEY=only-to-look-at-the-settings-0123456789-abcdefghijklmnopqrstuvwxyz

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: $(shell awk -F: '/^[a-z0-9-]+:.*\#\# / {print $$1}' $(firstword $(MAKEFILE_LIST)))

help: ## List what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Start everything in the foreground and rank a sample submission (PORT=8010, DEMO=0: start it empty)
	@$(ENVIRONMENTS) local mlflow runner
	@exec $(LOCAL) -m leaderboard_site.embedded.run --end-with-parent --port $(PORT) $(if $(filter 0 no,$(DEMO)),--no-demo)

services: ## Start PostgreSQL, Valkey and MLflow alone in the foreground, for development
	@$(ENVIRONMENTS) local mlflow
	@exec $(LOCAL) -m leaderboard_site.embedded.run --end-with-parent --services-only

worker-environment: ## Add what any submission can import: torch, anomalib (on CUDA where there is an NVIDIA GPU)
	@$(ENVIRONMENTS) $(WORKER_ENVIRONMENT)

environments: ## Make the environments that run, test and check use, and start nothing
	@$(ENVIRONMENTS) local dev mlflow runner deploy

test: ## Run the whole suite against real servers (ARGS="-k name" for a part of it)
	@$(ENVIRONMENTS) dev mlflow runner deploy
	$(DEV) -m pytest -n $(WORKERS) $(ARGS)

nightly: ## What a commit does not wait for: the longest tests, a storm, a restore; as root many machines and the images too (an hour)
	@$(ENVIRONMENTS) dev mlflow runner deploy
	$(DEV) -m pytest -n $(WORKERS) -m nightly $(ARGS)
	@$(MAKE) chaos restore-drill
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) multihost images-drill; else echo "Not run: multihost and images-drill, which need root."; fi

test-sandbox: ## Run the tests of the sandbox and of the embedded servers alone; CI does so as an ordinary user too
	@$(ENVIRONMENTS) dev mlflow runner
	$(DEV) -m pytest -n $(WORKERS) $(ARGS) tests/attacks tests/embedded

check: ## All that must be right: lint, format, types, migrations, deployment settings, templates, tests, coverage, vulnerabilities
	@$(ENVIRONMENTS) dev mlflow runner deploy
	$(DEV) -m ruff check .
	$(DEV) -m ruff format --check .
	$(DEV) -m mypy
	$(DEV) -m djlint --quiet --lint templates
	$(DEV) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	$(PRODUCTION) $(DEV) manage.py check --deploy --fail-level WARNING
	@rm -f .pytest_cache/v/cache/lastfailed
	$(DEV) -m pytest -n $(WORKERS) --cov --cov-report= $(ARGS) || $(DEV) -m tests.once_more
	$(DEV) -m coverage report --skip-covered --fail-under=85
	$(DEV) requirements/audit.py

audit: ## Look every pinned package up among known vulnerabilities; fails unless all could be (OSV_ADVISORIES=all.zip: offline)
	@$(ENVIRONMENTS) dev
	$(DEV) requirements/audit.py --strict

chaos: ## A storm of faults on a site of its own, then the promises checked (half an hour; SHORT=1: two minutes; SEED=n)
	@$(ENVIRONMENTS) dev mlflow runner
	@$(DEV) -W ignore -m tests.chaos.storm --seconds $(if $(SHORT),120,1800) $(if $(SEED),--seed $(SEED))

bench: ## Measure speed beside a reference peer and the machine's floors: one table (SHORT=1: minutes; ARGS="http --json F")
	@$(ENVIRONMENTS) local runner bench
	@$(LOCAL) -m benchmarks $(if $(SHORT),--short) $(ARGS)

multihost: ## A site on many machines made of network namespaces, whose links are slowed and cut (root; four minutes)
	@$(ENVIRONMENTS) dev mlflow runner
	@$(DEV) -W ignore -m tests.multihost.drill $(ARGS)

screenshots: ## Every page in eight looks into var/screenshots, checked with axe (ONLY=job: those alone; DOCS=1: docs/images anew)
	@$(ENVIRONMENTS) dev
	@$(DEV) -W ignore -m tests.pages.screenshots $(if $(ONLY),--only $(ONLY)) $(if $(DOCS),--docs)

restore-drill: ## A site with data backed up, destroyed, restored and compared byte for byte (two minutes)
	@$(ENVIRONMENTS) dev mlflow runner
	@$(DEV) -W ignore -m tests.restore.drill

images-drill: ## Build the images without a registry, run the compose file's services as it says (root, podman; five minutes to half an hour)
	@$(ENVIRONMENTS) dev deploy
	@$(DEV) -W ignore -m tests.images.drill $(ARGS)

lint: ## Lint and types alone
	@$(ENVIRONMENTS) dev
	$(DEV) -m ruff check .
	$(DEV) -m mypy

format: ## Format the code, and mend what the linter can mend
	@$(ENVIRONMENTS) dev
	$(DEV) -m ruff check --fix-only .
	$(DEV) -m ruff format .

requirements: ## Compile requirements/*.in to exact pins with hashes (needs uv)
	for name in $(REQUIREMENTS); do (cd requirements && $(UV) pip compile --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --custom-compile-command "make requirements" \
		$$name.in -o $$name.txt) || exit 1; done

clean: ## Remove what checks and tests leave; data and environments under var/ stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache htmlcov .coverage .coverage.*
