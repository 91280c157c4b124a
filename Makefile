# make test    install from Debian's packages what the tests need and lack, then run all tests, a simulated week first
# make simulation   days of many repositories in simulated time (SEED=… DAYS=… REPOSITORIES=… TAGS=…); the whole of it is
#              make simulation DAYS=30 REPOSITORIES=500 TAGS=100000
# make api-test   only the API as its description has it, by schemathesis, which is installed under target/ from PyPI
# make check   formatting, clippy, documentation, licences and sources of dependencies
# make fuzz    throw anything at what reads the words of others, ten seconds for each reader (FUZZ_SECONDS=…)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := test
# Each recipe is one script.
.ONESHELL:

CARGO ?= cargo
# Programs that the tests start or compare with, each with the Debian package that has it.
TEST_PROGRAMS := \
	docker-registry:docker-registry \
	skopeo:skopeo \
	buildah:buildah \
	podman:podman \
	containerd:containerd \
	ctr:containerd \
	memcached:memcached \
	redis-server:redis-server \
	redis-cli:redis-tools \
	nginx:nginx \
	curl:curl \
	python3:python3-venv

# How much `make simulation` simulates.
SEED ?= 1
DAYS ?= 7
REPOSITORIES ?= 100
TAGS ?= 20000

# From PyPI, into an environment of its own.
SCHEMATHESIS := target/schemathesis/bin/schemathesis
SCHEMATHESIS_VERSION := 4.32.5

.PHONY: test api-test schemathesis check fuzz simulation test-programs format clippy doc deny

test: test-programs schemathesis simulation
	@if $(CARGO) nextest --version >/dev/null 2>&1; then
		# It leaves out the tests in documentation; they go first, so that the summary of the rest is the last line.
		$(CARGO) test --workspace --locked --doc
		$(CARGO) nextest run --workspace --locked
	else
		$(CARGO) test --workspace --locked
	fi

test-programs:
	@missing=()
	for pair in $(TEST_PROGRAMS); do
		command -v "$${pair%%:*}" >/dev/null || missing+=("$${pair#*:}")
	done
	if (($${#missing[@]} == 0)); then exit 0; fi
	if ! command -v apt-get >/dev/null; then
		echo "the tests need Debian's $${missing[*]}, and there is no apt-get here: install them and try again" >&2
		exit 1
	fi
	as_root=()
	if (($$(id -u) != 0)); then
		if ! command -v sudo >/dev/null; then
			echo "the tests need $${missing[*]}: as root, run apt-get install $${missing[*]}" >&2
			exit 1
		fi
		as_root=(sudo)
	fi
	# Should the packages start daemons on their usual ports, no test minds: each starts servers of its own on free ones.
	"$${as_root[@]}" apt-get update
	"$${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$${missing[@]}"

api-test: schemathesis
	@$(CARGO) test --locked --package samovar --test openapi

schemathesis:
	@if [[ -x $(SCHEMATHESIS) ]] && [[ "$$($(SCHEMATHESIS) --version)" == *" $(SCHEMATHESIS_VERSION)" ]]; then exit 0; fi
	python3 -m venv --clear target/schemathesis
	target/schemathesis/bin/pip install --quiet --disable-pip-version-check schemathesis==$(SCHEMATHESIS_VERSION)

# Our own crates optimised, over the dependencies that everything else is tested with.
simulation:
	@export SIMULATION_SEED=$(SEED) SIMULATION_DAYS=$(DAYS)
	export SIMULATION_REPOSITORIES=$(REPOSITORIES) SIMULATION_TAGS=$(TAGS)
	$(CARGO) test --locked --package samovar --features simulation --test simulation \
		--config 'profile.dev.package.samovar.opt-level=1' --config 'profile.dev.package.samovar-registry.opt-level=1' \
		-- --nocapture

check: format clippy doc deny

fuzz:
	@fuzz/run

format:
	$(CARGO) fmt --all -- --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml -- --check

clippy:
	$(CARGO) clippy --workspace --all-targets --features simulation --locked -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

# Advisories are left out: their database comes from the network. `cargo deny check advisories` has them.
deny:
	@if ! $(CARGO) deny --version >/dev/null 2>&1; then
		echo "install cargo-deny: cargo install --locked cargo-deny --version '^0.20'" >&2
		exit 1
	fi
	# The manifests of crates for other systems are looked at too, and a build does not bring those.
	$(CARGO) fetch --locked
	$(CARGO) deny --locked --offline check licenses bans sources
