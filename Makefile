# What people run. `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help demo test build check unit lab-test criu e2e bench install clean

PREFIX ?= /usr/local
DESTDIR ?=
# More than cargo's three: a registry or a proxy may be gone for a minute.
export CARGO_NET_RETRY ?= 10
# Where cargo puts what it builds.
target := $(abspath $(or $(CARGO_TARGET_DIR),target))
shim := containerd-shim-stasis-v1
binaries := $(shim) stasis

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## Checkpoint and restore a counter in runsc, runc and crun, and show it
	lab/lab install
	lab/lab run --suite forky --needs runsc --deadline 300 --bind '$(target)' -- \
		demo/in-lab '$(target)/release'

test: unit lab-test criu e2e ## Run every test: unit, lab, CRIU and end to end (root; 2 cores: half an hour)

unit: ## Run the tests that need neither root nor the lab
	cargo test --locked --workspace

lab-test: ## Test the lab itself
	lab/lab install vm
	lab/test

criu: ## Run the tests of crates/criu and crates/plain with the real CRIU, in the lab and its virtual machine
	lab/lab install vm
	tests/criu

e2e: build ## Run the end-to-end tests in the lab, on containerd 1.7, 2.1 and 2.4
	lab/lab install
	tests/run

bench: ## Measure the shim beside its peers, into docs/performance.md (root; 15 minutes, no verdict)
	lab/lab install
	benches/run --write

build: ## Build the shim and the command (target/release)
	cargo build --locked --release $(addprefix --package ,$(binaries))

check: ## Formatting, lints, documentation, licences, shell scripts and circles
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --document-private-items
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny --locked check licenses bans sources
	scripts/check-shell
	scripts/check-circles

install: build ## Install both below PREFIX (/usr/local)
	install -D -m 755 --target-directory $(DESTDIR)$(PREFIX)/bin \
		$(addprefix $(target)/release/,$(binaries))

clean: ## Remove what was built, but for the lab's cache
	cargo clean
