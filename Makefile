# gpuhub. `make` alone lists what there is to make.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# CI starts from a fresh clone each time: what cargo built is kept outside of it. A developer's checkout
# keeps its own, as cargo does, so that two checkouts never build into each other.
ifdef CI
export CARGO_TARGET_DIR ?= $(or $(GPUHUB_CACHE),$(HOME)/.cache/gpuhub)/target
endif
release := $(or $(CARGO_TARGET_DIR),target)/release

version := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
arch := $(shell dpkg --print-architecture)
deb := target/deb/gpuhub_$(version)_$(arch).deb

programs := $(addprefix $(release)/,gpuhubd gpuhub gpuhub-entrypoint)
modules := $(addprefix $(release)/,libpam_gpuhub.so libnss_gpuhub.so)
package_sources := Cargo.toml Cargo.lock gpuhubd/src/registry/schema-1.sql $(shell find packaging conf docs/man docs/pam-stack.md docs/providers -type f)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

prerequisites: ## install the distribution's packages that building and testing take (as root)
	packaging/prerequisites.sh

deb: $(deb) ## build the package: target/deb/gpuhub_VERSION_ARCH.deb

# Cargo knows what has to be built; it leaves the files alone when nothing has. The modules are built
# apart from the programs: cargo unites the features of what it builds together, and what the broker
# asks of a shared crate must not end up in every process of the machine.
$(modules) &: FORCE
	cargo build --locked --release --package pam_gpuhub --package nss_gpuhub
$(programs) &: FORCE
	cargo build --locked --release --package gpuhubd --package gpuhub

$(deb): $(programs) $(modules) $(package_sources)
	packaging/build-deb $@ $(release)

check: fmt clippy link-law licences ## formatting, lints, link law, licences

fmt:
	cargo fmt --all --check

clippy:
	cargo clippy --locked --workspace --all-targets -- -D warnings

link-law: $(modules)
	packaging/link-law/check.sh $(release)

licences:
	packaging/licences.py check

test: prerequisites ## everything: check, unit tests, the package, logins against real servers
	$(MAKE) check
	$(MAKE) unit
	$(MAKE) deb
	tests/harness/run

unit: ## the crates' own tests
	if cargo nextest --version >/dev/null 2>&1; then \
	    cargo nextest run --locked --workspace; \
	else \
	    cargo test --locked --workspace; \
	fi

demo: prerequisites ## a root with the package, real servers, real logins; KEEP=1 leaves it running
	$(MAKE) deb
	KEEP=$(KEEP) tests/harness/run demo

bench-nss: prerequisites ## lookups, beside the peers (QUICK=1: a shorter one)
	$(MAKE) deb
	cargo build --locked --release --package gpuhub-common --example make_snapshot
	tests/harness/run bench nss

bench-pam: prerequisites ## logins, beside the peers (QUICK=1: a shorter one)
	$(MAKE) deb
	tests/harness/run bench pam

bench-oidc: prerequisites ## device logins, from approval to shell (QUICK=1: a shorter one)
	$(MAKE) deb
	tests/harness/run bench oidc

lintian: $(deb) ## the distribution's opinion of the package
	lintian --fail-on error,warning --info $(deb)

clean: ## remove what was built
	cargo clean
	rm -rf target/deb

.PHONY: help prerequisites deb check fmt clippy link-law licences test unit demo bench-nss bench-pam bench-oidc lintian clean FORCE
FORCE:
