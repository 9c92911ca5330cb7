# Everything a person runs. `make demo` and `make test` do their own set-up; the downloads are kept in
# $PALIMPSEST_CACHE (default ~/.cache/palimpsest), outside the checkout.

export PALIMPSEST_CACHE ?= $(HOME)/.cache/palimpsest
BIN := target/debug

.PHONY: help setup build demo demo-control test inputs simulate e2e cuda-check lint bench cluster cluster-down clean-runs

help:
	@echo "make setup         bring libtorch"
	@echo "make demo          teach a small English model Chinese, with replay"
	@echo "make demo-control  the same without English and without replay: watch it forget"
	@echo "make test          everything that needs no GPU"
	@echo "make e2e           jobs on real nodes that come to harm (half an hour); with KUBECONFIG set, on that cluster"
	@echo "make simulate      100,000 worlds of coordinator and agents with faults (6 minutes)"
	@echo "make cuda-check    link against libtorch_cuda"
	@echo "make cluster       a Kubernetes on this machine, for tests (NODES=1); make cluster-down ends it"
	@echo "make bench         speed and memory beside PyTorch and transformers, measured in turns; the operator beside a bare loop"

setup: .libtorch/lib/libtorch.so

.libtorch/lib/libtorch.so:
	scripts/libtorch.sh

# The whole workspace but the tests: with the features of `cargo test --workspace`, which then compiles no library anew.
build: setup
	cargo build --workspace --exclude palimpsest-tests --bins

demo: build
	$(BIN)/palimpsest run examples/english-base.yaml
	$(BIN)/palimpsest run examples/chinese-extension.yaml
	scripts/demo-lines.sh runs/chinese-extension/model

demo-control: build
	$(BIN)/palimpsest run examples/english-base.yaml
	$(BIN)/palimpsest run examples/no-replay.yaml

lint: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --features palimpsest-tests/e2e -- -D warnings
	scripts/deny.sh

# With `--jobs=2` what tests read is fetched while the workspace is compiled.
test: inputs lint build
	tests/cluster/up.sh --check || [ "$$CI" != true ]
	cargo test --workspace
	scripts/cuda-check.sh

inputs: setup
	scripts/test-data.sh
	scripts/parity-venv.sh
	scripts/smollm2.sh
	tests/cluster/binaries.sh
	tests/cluster/kueue.sh

simulate:
	PALIMPSEST_SEEDS=100000 cargo test --workspace --lib simulation -- --nocapture

# One after the other: they measure seconds.
e2e: build
	[ -n "$$KUBECONFIG" ] || tests/cluster/binaries.sh
	CI=true cargo test --workspace --features palimpsest-tests/e2e --test e2e -- --test-threads=1 --nocapture
	cargo test --workspace --features palimpsest-tests/e2e --test kills stands_still
	[ -n "$$KUBECONFIG" ] || CI=true PALIMPSEST_ALL_CRASHES=1 cargo test --workspace --test operator_crashes --test operator_faults --test pods -- --nocapture

# Links against the CUDA libraries of the same wheel; runs nothing on a GPU.
cuda-check: build
	scripts/parity-venv.sh
	scripts/cuda-check.sh

bench: inputs build
	cargo build --workspace --bin operator-load
	$(PALIMPSEST_CACHE)/venv/bin/python bench/run.py

NODES ?= 1
cluster:
	@tests/cluster/up.sh $(NODES)

cluster-down:
	@tests/cluster/down.sh

clean-runs:
	rm -rf runs
