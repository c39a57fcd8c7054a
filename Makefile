# What can be done with this repository. `make` alone lists it. Everything works from a fresh clone.
# build, demo and test need Rust only (https://rustup.rs); what else a target needs stands beside it.

CARGO := cargo
# A fresh terminal program must not decide how a build goes.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build demo check check-generated test test-operator conformance e2e ci crds bench images clean

TARGET := $(or $(CARGO_TARGET_DIR),target)
PINNACE := $(TARGET)/release/pinnace
OPERATOR := $(TARGET)/release/pinnace-operator
# Tests that need an API server have a target of their own. Building one selection everywhere spares compiling the
# Kubernetes types twice with other features.
WITHOUT_CLUSTER := --workspace --exclude tests-operator
# The step list of `make ci`, in order; `make ci STEPS="check test"` runs fewer.
STEPS := check test test-operator conformance demo e2e

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## compile the broker and the operator into target/release
	$(CARGO) build --release --locked -p broker
	$(CARGO) build --release --locked -p operator

$(PINNACE): FORCE
	$(CARGO) build --release --locked -p broker

$(OPERATOR): FORCE
	$(CARGO) build --release --locked -p operator

.PHONY: FORCE
FORCE:

demo: $(PINNACE) ## start a broker with examples/orders, send orders, bill them, tell the story; stays up on a terminal
	$(PINNACE) demo --manifests examples/orders

check: check-generated ## formatting, lints, the repository's rules, generated files
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --locked -p tidy

check-generated: ## crds/ holds what the operator's types say
	$(CARGO) build $(WITHOUT_CLUSTER) --locked
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(TARGET)/debug/pinnace-operator crds --out "$$fresh"; \
	diff -ru crds "$$fresh" || { echo "crds/ is not what the types say; run 'make crds' and commit" >&2; exit 1; }

test: ## all tests that need neither a cluster nor other languages
	$(CARGO) build $(WITHOUT_CLUSTER) --locked
	$(CARGO) test $(WITHOUT_CLUSTER) --locked

test-operator: ## the operator against a real API server (needs Go; makes one from Go modules, once)
	tests/operator/run

conformance: $(PINNACE) ## the official clients in five languages (needs Go, Java with Maven, Python and Node.js)
	tests/conformance/run --binary $(PINNACE)

e2e: build images ## a real Kubernetes: Helm install, examples, a broker pod lost (needs Go, root, Debian packages)
	tests/cluster/e2e

images: $(PINNACE) $(OPERATOR) ## container images as OCI archives in target/images (needs Go)
	tests/cluster/images

bench: $(PINNACE) ## throughput, latency and CPU per message of a durable broker on this machine
	tests/benchmark/run

crds: ## write crds/ from the operator's types
	$(CARGO) build $(WITHOUT_CLUSTER) --locked
	$(TARGET)/debug/pinnace-operator crds --out crds

ci: ## everything above that tests, step by step
	@begin=$$SECONDS; summary=; \
	for step in $(STEPS); do \
		echo "==== $$step"; started=$$SECONDS; \
		$(MAKE) --no-print-directory $$step </dev/null || { echo "==== $$step FAILED after $$((SECONDS - started)) s"; exit 1; }; \
		summary="$$summary  $$step $$((SECONDS - started)) s"$$'\n'; \
	done; \
	printf '==== passed in %s s\n%s' "$$((SECONDS - begin))" "$$summary"

clean: ## remove what was built
	$(CARGO) clean
