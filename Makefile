# The one door to every command. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help dev test lint fmt doc bench regress clients metrics page deps

help: ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

deps: ## install what is missing to build, run and test (Debian, Ubuntu)
	@scripts/build-tools
	@scripts/postgresql-programs

dev: deps ## run PostgreSQL with FireFoundry's databases, and the proxy in front of it
	cargo run --release --quiet -- dev $(ARGS)

test: deps ## run every test; needs nothing but a Rust toolchain
	deploy/sql/test.sh
	cargo test --quiet --no-fail-fast

lint: deps ## formatting, lints, and documentation without warnings
	cargo fmt --check
	cargo clippy --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet --document-private-items

fmt: ## format the code
	cargo fmt

bench: deps ## side by side with PostgreSQL itself and other poolers; ARGS (--quick) are passed on
	benches/e2e/run $(ARGS)

regress: deps ## PostgreSQL's own tests through firepool and without it (Debian, Ubuntu); ARGS are passed on
	tests/regress/run $(ARGS)

metrics: deps ## what Prometheus itself says of the metrics, rules, alerts and the dashboard (Debian, Ubuntu)
	@scripts/prometheus-programs
	deploy/prometheus/test.sh

page: deps ## the page for people in a real browser under load (Debian, Ubuntu); ARGS=FILE takes a picture of it
	@scripts/browser-programs
	tests/page/run $(ARGS)

clients: deps ## real drivers through firepool and without it (Python, Node.js, Go, Rust, Java, ODBC); ARGS are passed on
	tests/clients/run $(ARGS)
