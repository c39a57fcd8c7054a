# What can be done with this repository. `make` alone lists it. Everything works from a fresh clone.
# build, demo and test need Rust only (https://rustup.rs); what else a target needs stands beside it.

CARGO := cargo
# A fresh terminal program must not decide how a build goes.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build demo check check-generated test test-long sim sim-soak test-operator test-operator-scale test-operator-faults test-charts conformance test-examples e2e ci crds bench images fuzz clean

TARGET := $(or $(CARGO_TARGET_DIR),target)
# The demo, tests and examples run a development build, which is there long before a release build would be. Each selects
# `--workspace`, also where it needs one binary: another selection compiles shared dependencies again, with other features.
DEVELOPMENT := $(TARGET)/debug
# The step list of `make ci`, in order; `make ci STEPS="check test"` runs fewer.
STEPS := check test test-operator test-charts conformance test-examples demo e2e

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## compile the broker and the operator as they are shipped, into target/release
	$(CARGO) build --release --locked -p broker -p operator

demo: ## start a broker with examples/orders, send orders, bill them, tell the story; the first time within 4 minutes on 2 cores
	$(CARGO) build --locked --workspace --bin pinnace
	$(DEVELOPMENT)/pinnace demo --manifests examples/orders

check: check-generated ## formatting, lints, the repository's rules, generated files
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features --locked -- -D warnings
	$(CARGO) test --locked -p tidy
	@# The fuzz targets are a workspace of their own. Checking them needs neither a nightly compiler nor libFuzzer.
	CUSTOM_LIBFUZZER_PATH=/libFuzzer.a CARGO_TARGET_DIR=$(abspath $(TARGET)) $(CARGO) check --locked --manifest-path tests/fuzz/Cargo.toml

check-generated: ## crds/ holds what the operator's types say
	$(CARGO) build --workspace --locked
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(DEVELOPMENT)/pinnace-operator crds --out "$$fresh"; \
	diff -ru crds "$$fresh" || { echo "crds/ is not what the types say; run 'make crds' and commit" >&2; exit 1; }

test: ## all tests that need neither a cluster nor other languages
	$(CARGO) build --workspace --locked
	$(CARGO) test --workspace --locked

SECONDS := 60
sim: ## play simulated histories for SECONDS=60, or HISTORIES=n of them; SEED=n repeats one, step by step
	$(CARGO) build --locked -p tests-simulation --profile simulation
	$(TARGET)/simulation/simulation $(if $(SEED),--seed $(SEED),$(if $(HISTORIES),--histories $(HISTORIES) --seconds 86400,--seconds $(SECONDS)) $(if $(FROM),--from $(FROM)))

HOURS := 72
sim-soak: ## play eight long histories, of HOURS=72 of simulated time each: nothing that the broker holds may grow
	$(CARGO) build --locked -p tests-simulation --profile simulation
	$(TARGET)/simulation/simulation --soak $(HOURS) $(if $(FROM),--from $(FROM))

JOB := all
PART := 1
KILLS := 3
test-long: ## more at one moment than fits into a second, killed in the middle, sends of others measured: JOB=all of skip, reset, expire, timers, redrive, trim; PART=1 of the real size, one in so many; KILLS=3
	$(CARGO) build --workspace --locked --release
	PINNACE_BINARY=$(abspath $(TARGET))/release/pinnace $(TARGET)/release/long_jobs $(JOB) $(PART) $(KILLS)

test-operator: ## the operator against a real API server (needs Go; makes one from Go modules, once)
	tests/operator/run

test-operator-scale: ## 2,000 topics and 1,000 groups on a real API server: how soon ready, how much memory, no writes in peace
	PINNACE_TEST_SCALE=1 tests/operator/run many_objects --nocapture

test-operator-faults: ## the operator ended between any two of its writes, 50 lives under other faults, and 2,000 random specs
	PINNACE_TEST_ALL_FAULTS=1 RANDOM_SPECS=2000 TIMEOUT=7200 tests/operator/run survival:: random_specs:: --nocapture

test-charts: ## the Helm charts: lint, schemas, goldens, an install on a real API server, health for Argo CD (needs Go, jq, lua5.4)
	$(CARGO) build --workspace --locked
	tests/cluster/build control
	OPERATOR=$(abspath $(DEVELOPMENT))/pinnace-operator charts/check
	OPERATOR=$(abspath $(DEVELOPMENT))/pinnace-operator charts/check-install
	tests/health/run

LAYOUTS := one-shard
conformance: build ## the official clients in five languages (needs Go, Java with Maven, Python and Node.js); LAYOUTS="one-shard three-shards two-brokers" for all
	$(CARGO) build --locked --workspace --bin cluster
	tests/conformance/run --binary $(abspath $(TARGET))/release/pinnace --tool $(abspath $(DEVELOPMENT))/cluster \
		$(LAYOUTS:%=--layout %)

test-examples: ## the programs of examples/ in four languages (needs Go, Java with Maven, Python)
	$(CARGO) build --locked --workspace --bin pinnace
	tests/examples/run --binary $(abspath $(DEVELOPMENT))/pinnace

e2e: images ## a real Kubernetes: Helm install, examples on three brokers; pods, volumes, a node, the API server lost (needs Go, root, Debian packages)
	tests/cluster/e2e

images: build ## container images as OCI archives in target/images (needs Go)
	tests/cluster/images

bench: build ## throughput, latency and CPU per message of a durable broker on this machine
	tests/benchmark/run

crds: ## write crds/ from the operator's types, and from crds/ what the charts hold of it (needs Go, jq)
	$(CARGO) build --workspace --locked
	$(DEVELOPMENT)/pinnace-operator crds --out crds
	tests/cluster/build control
	charts/sync-crds

ci: ## everything above that tests, step by step
	@begin=$$SECONDS; summary=; \
	for step in $(STEPS); do \
		echo "==== $$step"; started=$$SECONDS; \
		$(MAKE) --no-print-directory $$step </dev/null || { echo "==== $$step FAILED after $$((SECONDS - started)) s"; exit 1; }; \
		summary="$$summary  $$step $$((SECONDS - started)) s"$$'\n'; \
	done; \
	printf '==== passed in %s s\n%s' "$$((SECONDS - begin))" "$$summary"

fuzz: ## run every fuzz target for FUZZ_SECONDS=60 each (needs the nightly toolchain)
	tests/fuzz/run

clean: ## remove what was built
	$(CARGO) clean
