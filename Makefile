# Meshbus: one task runner for people and CI. `make help` lists what there is.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.meshbus-installed
PAGE   := services/topology/page/vendor/cytoscape-license.txt

.DEFAULT_GOAL := help
.PHONY: help demo up kubeconfig page test test-full check unit bench faults fuzz soak bed bed-down proto lock docs sbom audit image clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): requirements.lock
	@test ! -L $(VENV) || { \
	  echo "$(VENV) is a link to the environment of another checkout, which would be emptied: install there" >&2; \
	  exit 1; }
	@command -v $(PYTHON) >/dev/null || { \
	  echo "Meshbus needs Python 3.11 ($(PYTHON) is not on PATH); install it or set PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || { \
	  echo "Meshbus needs Python 3.11 or 3.12; $(PYTHON) is another version" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

# The one library of the topology's page, from its npm package; nothing is fetched at run time.
$(PAGE): deploy/vendoring.py | $(READY)
	@$(BIN)/python -m deploy.vendoring

page: $(PAGE) ## what the topology's page needs, beside it

up: $(READY) ## NATS and the five services here, until Ctrl-C (CLUSTER=~/.kube/config[:context])
	@$(BIN)/python -m deploy.vendoring || echo "the live graph's page lacks its library; all else works"
	@$(BIN)/python -m deploy.local up $(foreach cluster,$(CLUSTER),--cluster '$(cluster)')

kubeconfig: $(READY) ## one with least rights for CONTEXT (TIER=read|manifests|full TTL=24h OUT=FILE REMOVE=1)
	@$(BIN)/python -m deploy.local kubeconfig --context '$(CONTEXT)' $(if $(TIER),--tier '$(TIER)') \
	  $(if $(TTL),--ttl '$(TTL)') $(if $(OUT),--out '$(OUT)') $(if $(REMOVE),--remove)

demo: $(READY) $(PAGE) ## the main job end to end on a real cluster (KEEP=1 leaves it up)
	@$(BIN)/python -m tests.system.demo

test: $(READY) $(PAGE) ## everything that CI runs: about 20 minutes; only a part: make test T=tests/unit
	@$(BIN)/python -m tests --check $(T)

test-full: $(READY) $(PAGE) ## the same with the long matrices: about 40 minutes
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

faults: $(READY) ## the fault matrix in full
	@$(BIN)/python -m tests --full tests/faults

fuzz: $(READY) ## one parser under Atheris, if that is installed: make fuzz T=yaml
	@$(BIN)/python -m tests.unit.fuzz $(T) $(or $(OPTIONS),-max_total_time=300)

soak: $(READY) ## hours of load under faults (HOURS=2 SEED=1); writes docs/reference/soak.md
	@$(BIN)/python -m tests.faults.soak --hours $(or $(HOURS),2) --seed $(or $(SEED),1)

bed: $(READY) ## a local Kubernetes that stays; prints its kubeconfig
	@$(BIN)/python -m tests.testbed up

bed-down: $(READY) ## ends what `make bed` started
	@$(BIN)/python -m tests.testbed down

proto: $(READY) ## generate proto/meshops_pb2.py from proto/meshops.proto
	@$(BIN)/python -m proto.generate

docs: $(READY) ## generate the reference pages
	@$(BIN)/python -m docs.generate

lock: $(READY) ## pin all dependencies with hashes
	@$(BIN)/uv pip compile pyproject.toml --extra dev --generate-hashes --no-emit-index-url \
	  --no-header --python-version 3.11 --upgrade --quiet -o requirements.lock

sbom: $(READY) ## sbom.json: what Meshbus is made of, as CycloneDX
	@$(BIN)/python -m deploy.bom > sbom.json && echo "wrote sbom.json"

audit: $(READY) ## known vulnerabilities of the pinned dependencies (asks api.osv.dev)
	@$(BIN)/python -m deploy.auditing

image: $(READY) $(PAGE) ## both images, by docker, podman or buildah (OPTIONS=--archives; BASE=debian)
	@$(BIN)/python -m deploy.image $(if $(BASE),--base $(BASE)) $(OPTIONS)

clean: ## removes the environment and the runs (the bed's cache stays)
	rm -rf $(VENV) .run
