# Everything a person runs. `make demo` and `make test` do their own set-up; the downloads are kept in
# $PALIMPSEST_CACHE (default ~/.cache/palimpsest), outside the checkout.

export PALIMPSEST_CACHE ?= $(HOME)/.cache/palimpsest
BIN := target/debug

.PHONY: help setup build demo demo-control test cuda-check lint bench clean-runs

help:
	@echo "make setup         bring libtorch"
	@echo "make demo          teach a small English model Chinese, with replay"
	@echo "make demo-control  the same without English and without replay: watch it forget"
	@echo "make test          everything that needs no GPU"
	@echo "make cuda-check    link against libtorch_cuda"
	@echo "make bench         speed and memory beside PyTorch and transformers, measured in turns"

setup: .libtorch/lib/libtorch.so

.libtorch/lib/libtorch.so:
	scripts/libtorch.sh

build: setup
	cargo build --package palimpsest-cli --package palimpsest-worker

demo: build
	$(BIN)/palimpsest run examples/english-base.yaml
	$(BIN)/palimpsest run examples/chinese-extension.yaml
	scripts/demo-lines.sh runs/chinese-extension/model

demo-control: build
	$(BIN)/palimpsest run examples/english-base.yaml
	$(BIN)/palimpsest run examples/no-replay.yaml

lint: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	scripts/deny.sh

test: lint build
	scripts/test-data.sh
	scripts/parity-venv.sh
	scripts/smollm2.sh
	tests/cluster/binaries.sh
	cargo test --workspace
	scripts/cuda-check.sh

# Links against the CUDA libraries of the same wheel; runs nothing on a GPU.
cuda-check: build
	scripts/parity-venv.sh
	scripts/cuda-check.sh

bench: build
	scripts/parity-venv.sh
	$(PALIMPSEST_CACHE)/venv/bin/python bench/run.py

clean-runs:
	rm -rf runs
