# Meshbus: one task runner for people and CI. `make help` lists what there is.

# The first of these that is there and can be used.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
  $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null \
  && { command -v $$p; break; }; done)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.meshbus-installed
RUNS   := $(VENV)/.meshbus-runtime
PAGE   := services/topology/page/built/index.html

LOCKED := --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --quiet
UPGRADE ?= --upgrade

.DEFAULT_GOAL := help
.PHONY: help demo up apply doctor kubeconfig page test test-full check unit bench profile gate-simulation faults fuzz soak leaders screenshots bed bed-down proto lock docs site sbom audit image release clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

# What Meshbus needs to run; the second file is what its tests and checks need as well.
$(RUNS): runtime.lock
	@test -n "$(PYTHON)" || { \
	  echo "Meshbus needs Python 3.11, 3.12, 3.13 or 3.14, and none is on PATH: set PYTHON=…" >&2; exit 1; }
	@[ "$$($(BIN)/python -V 2>/dev/null)" = "$$($(PYTHON) -V)" ] || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r runtime.lock
	@touch $@

$(READY): $(RUNS) requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

# The console's page, from its sources and npm's packages; it says itself whether it is up to date.
.PHONY: $(PAGE)
$(PAGE): | $(READY)
	@$(BIN)/python -m deploy.bundling

page: $(PAGE) ## the console's page, built by npm where its sources have changed

up: $(RUNS) ## NATS and the five services here, until Ctrl-C (CLUSTER=~/.kube/config[:context])
	@$(BIN)/python -m deploy.bundling || echo "the console has no page; all else works"
	@$(BIN)/python -m deploy.local up $(foreach cluster,$(CLUSTER),--cluster '$(cluster)')

apply: $(RUNS) ## an operation as from Meshery (OPERATION=istio CLUSTER=… VERSION= NAMESPACE= BODY=FILE DELETE=1)
	@$(BIN)/python -m deploy.local apply '$(OPERATION)' \
	  $(foreach cluster,$(CLUSTER),--cluster '$(cluster)') $(if $(VERSION),--version '$(VERSION)') \
	  $(if $(NAMESPACE),--namespace '$(NAMESPACE)') $(if $(BODY),--body '$(BODY)') $(if $(DELETE),--delete)

doctor: $(RUNS) ## what is wrong with `make up`, and what to do (OPTIONS='--nats URL --nkey FILE')
	@$(BIN)/python -m deploy.local doctor $(OPTIONS)

kubeconfig: $(RUNS) ## one with least rights for CONTEXT (TIER=read|manifests|full TTL=24h PROXIES=istio-system OUT=FILE REMOVE=1)
	@$(BIN)/python -m deploy.local kubeconfig --context '$(CONTEXT)' $(if $(TIER),--tier '$(TIER)') \
	  $(if $(TTL),--ttl '$(TTL)') $(if $(PROXIES),--proxies '$(PROXIES)') $(if $(OUT),--out '$(OUT)') $(if $(REMOVE),--remove)

demo: $(READY) $(PAGE) ## the main job end to end, with sidecars where a real node can be (KEEP=1 leaves it up; REAL=0)
	@$(BIN)/python -m tests.system.demo

test: $(READY) $(PAGE) ## everything that CI runs: about 20 minutes; only a part: make test T=tests/unit
	@$(BIN)/python -m tests --check $(T)

test-full: $(READY) $(PAGE) ## the same with the long matrices: about an hour
	@$(BIN)/python -m tests --check --full $(T)

check: $(READY) ## format, lint, types, import rules: about a minute
	@echo "check: format, lint, types, import rules and generated pages (about a minute)"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m proto.generate --check
	@$(BIN)/python -m docs.generate --check

unit: $(READY) ## only the tests that need no bed
	@$(BIN)/python -m pytest --numprocesses=auto --dist=loadgroup tests/unit

bench: $(READY) $(PAGE) ## the side-by-side measurements; writes their pages in docs/reference
	@$(BIN)/python -m tests.testbed.building
	@$(BIN)/python -m tests.bench

profile: $(READY) ## where the time of one work goes (WORK=graph|smi|start-gateway|accept|…; MEMORY=1)
	@$(BIN)/python -m tests.bench.profiles $(if $(MEMORY),--memory) $(WORK)

gate-simulation: $(READY) ## how often a performance gate is wrong: minutes of simulation
	@$(BIN)/python -m tests.bench.gate

faults: $(READY) ## the fault matrix in full
	@$(BIN)/python -m tests --full tests/faults

fuzz: $(READY) ## one parser under Atheris, if that is installed: make fuzz T=yaml
	@$(BIN)/python -m tests.unit.fuzz $(T) $(or $(OPTIONS),-max_total_time=300)

soak: $(READY) ## hours of load under faults (HOURS=2 SEED=1); writes docs/reference/soak.md
	@$(BIN)/python -m tests.faults.soak --hours $(or $(HOURS),2) --seed $(or $(SEED),1)

leaders: $(READY) ## operations at a rate while leaders of three NATS servers die (MINUTES=10 RATE=20)
	@$(BIN)/python -m tests.faults.leaders --minutes $(or $(MINUTES),10) --rate $(or $(RATE),20)

screenshots: $(READY) $(PAGE) ## the pictures of docs/images, over a scripted scene (ONLY=console|graph)
	@$(BIN)/python -m tests.real.topology.screenshots docs/images $(ONLY)

bed: $(READY) ## a local Kubernetes that stays; prints its kubeconfig (REAL=1: pods run; CLUSTERS=2)
	@$(BIN)/python -m tests.testbed up $(if $(REAL),--real) $(if $(CLUSTERS),--clusters $(CLUSTERS))

bed-down: $(READY) ## ends what `make bed` started
	@$(BIN)/python -m tests.testbed down

proto: $(READY) ## generate proto/meshops_pb2.py from proto/meshops.proto
	@$(BIN)/python -m proto.generate

docs: $(READY) ## generate the reference pages
	@$(BIN)/python -m docs.generate

site: $(READY) ## the documentation as a site in dist/site; every link is followed
	@$(BIN)/python -m docs.site

lock: $(READY) ## pin all dependencies with hashes, for every Python and machine (UPGRADE=: as they are)
	@$(BIN)/uv pip compile pyproject.toml --extra dev $(LOCKED) $(UPGRADE) -o requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --constraint requirements.lock $(LOCKED) -o runtime.lock
	@$(BIN)/python -m deploy.locking

sbom: $(READY) ## sbom.json: what Meshbus is made of, as CycloneDX
	@$(BIN)/python -m deploy.bom > sbom.json && echo "wrote sbom.json"

audit: $(READY) ## known vulnerabilities of the pinned dependencies (asks api.osv.dev)
	@$(BIN)/python -m deploy.auditing

image: $(READY) $(PAGE) ## both images, by docker, podman or buildah (OPTIONS=--archives; BASE=debian)
	@$(BIN)/python -m deploy.image $(if $(BASE),--base $(BASE)) $(OPTIONS)

release: $(READY) $(PAGE) ## images, chart, SBOM and sums in dist/VERSION (BASE=debian; OPTIONS='--without images')
	@$(BIN)/python -m deploy.releasing $(if $(BASE),--base $(BASE)) $(OPTIONS)

clean: ## removes the environment and the runs (the bed's cache stays)
	rm -rf $(VENV) .run
