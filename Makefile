# What can be done in a checkout. Each target does the set-up it needs.
#
#   make run      build banger, make the runtime directory, and start it
#   make test     all tests; ends with a summary that counts what was skipped
#   make build    banger and the guest's init, optimized
#   make runtime  the runtime directory: kernel, initrd, images; also: runtime-bundle
#   make runtime-package
#                 that directory as one archive to publish; OUTPUT=, WITH_QEMU=yes
#   make install  banger and the runtime directory, for all users; PREFIX=/usr/local, DESTDIR=
#   make uninstall
#                 what make install has put there, and no more; with the same PREFIX
#   make deb      a Debian package
#   make lab      a shell in the lab: a real host with KVM and device-mapper, in an emulator
#   make bench    the benchmarks
#   make demo     vhs/demo.gif: the first minutes, played by vhs (vhs/README.md)
#   make lint     formatting, clippy, shellcheck
#   make setup    the Debian packages that banger, its tests and its lints need

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Said once, so that cargo and this file mean the same place.
export CARGO_TARGET_DIR ?= $(CURDIR)/target
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')

# For `make install`, and passed on as they are: paths with blanks work.
export PREFIX ?= /usr/local
export DESTDIR ?=
# What is installed: release, or debug.
export PROFILE ?= release
# The runtime directory that is installed; `none` leaves it to `banger runtime bootstrap`.
export RUNTIME ?= $(CURDIR)/runtime
# `no` takes what is built as it is.
export BUILD ?= yes

# The guest's init is linked statically and always optimized: tests and releases share one, and
# so one initrd. A target is named so that the flag does not reach build scripts, which share
# the directory with everything else.
INIT := $(CARGO_TARGET_DIR)/$(HOST)/release/banger-init

.PHONY: help setup setup-dev init build run runtime runtime-bundle runtime-package install uninstall deb test lab bench demo lint

help:
	@sed -n 's/^#   make/make/p' Makefile

setup:
	@scripts/setup.sh

setup-dev:
	@scripts/setup.sh dev

init:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked \
		--target $(HOST) --no-default-features --features guest-init --bin banger-init
	@for profile in debug release; do \
		mkdir -p "$(CARGO_TARGET_DIR)/$$profile"; \
		install -m 0755 "$(INIT)" "$(CARGO_TARGET_DIR)/$$profile/banger-init"; \
	done

build: setup init
	cargo build --release --locked

runtime: build
	"$(CARGO_TARGET_DIR)/release/banger" runtime bootstrap --init "$(INIT)"

runtime-bundle: runtime

# What it writes, and whether this machine's QEMU goes with it.
export OUTPUT ?= $(CURDIR)/banger-runtime-$(firstword $(subst -, ,$(HOST))).tar.zst
WITH_QEMU ?= no

runtime-package: runtime
	"$(CARGO_TARGET_DIR)/release/banger" runtime package --output "$$OUTPUT" \
		$(if $(filter yes,$(WITH_QEMU)),--with-qemu)

run: runtime
	@exec "$(CARGO_TARGET_DIR)/release/banger"

test: setup-dev init
	@scripts/test.sh "$(INIT)"

install:
	@scripts/install.sh

uninstall:
	@scripts/install.sh remove

deb: build
	@scripts/deb.sh

lab: setup-dev runtime
	@exec scripts/lab/run.sh --banger "$(CARGO_TARGET_DIR)/release/banger" --shell

bench: runtime
	cargo bench --locked --bench reach

# What vhs needs is looked for first: the rest takes minutes. The banger that is played is this one.
demo:
	@missing=; for program in vhs ttyd ffmpeg; do \
		command -v "$$program" >/dev/null || missing="$$missing $$program"; \
	done; \
	if [ -n "$$missing" ]; then \
		echo "make demo: not found in PATH:$$missing" >&2; \
		echo "https://github.com/charmbracelet/vhs says how to install vhs and these" >&2; \
		exit 1; \
	fi
	@$(MAKE) runtime
	@home=$$(mktemp -d) && BANGER_STATE_DIR="$$home" \
		PATH="$(CARGO_TARGET_DIR)/release:$$PATH" vhs vhs/demo.tape && rm -r "$$home"

lint: setup-dev
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --features guest-init --bin banger-init -- -D warnings
	shellcheck -x scripts/*.sh scripts/*/*.sh scripts/lab/inside/* .ci/run src/image/import/container-init.sh
