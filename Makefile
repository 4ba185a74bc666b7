# Daily work with the project and its images; `make help` lists what there is.
# Images are files to make: build/NAME.digest holds NAME's manifest digest and gets a new time only
# when the digest changed, so a rule of yours may depend on it:  deploy: build/site.digest

MAKEFLAGS += --no-builtin-rules
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
BUILDER := $(BIN)/builder
IMAGES := $(patsubst specs/%.yaml,%,$(wildcard specs/*.yaml))

# Debian packages; package=program: nothing to install where the program is there already.
DEMO_PACKAGES := mmdebstrap=mmdebstrap uidmap=newuidmap
TEST_PACKAGES := $(DEMO_PACKAGES) docker.io=dockerd docker-registry=docker-registry skopeo=skopeo \
	umoci=umoci buildah=buildah runc=runc busybox-static strace=strace attr=setfattr \
	libcap2-bin=setcap faketime=faketime gnupg=gpg nginx-light=nginx gcc=gcc libc6-dev \
	passt=pasta slirp4netns=slirp4netns iproute2=ip openssl=openssl procps=pgrep \
	openssh-server=sshd openssh-client=ssh-agent rpm=rpmbuild createrepo-c=createrepo_c npm=npm \
	docker-compose=docker-compose db5.3-util=db5.3_load zsh=zsh fish=fish mandoc=mandoc

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-zA-Z][^ $$]*:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf 'make %-12s %s\n' image-NAME 'Build one image ($(IMAGES)) and what it stands on'

# -- setting up ----------------------------------------------------------------------------------

.PHONY: setup
setup: venv demo-packages test-packages ## Create .venv and install all that the demo and the tests need

# Done again when pyproject.toml reads differently, not when it is only newer: a checkout sets times.
.PHONY: venv
venv:
	@cmp -s pyproject.toml .venv/pyproject.toml && $(BIN)/python -c '' && exit; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: '$(PYTHON)' is not Python 3.11 or newer" >&2; \
	  echo "hint: name one that is: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }; \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || .ci/packages python3-venv; \
	echo "installing the builder and what it needs into .venv"; \
	$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv; \
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,docs]'; \
	cp pyproject.toml .venv/pyproject.toml

.PHONY: demo-packages
demo-packages:
	@.ci/packages $(DEMO_PACKAGES)

.PHONY: test-packages
test-packages: demo-packages
	@.ci/packages $(TEST_PACKAGES)

# -- images --------------------------------------------------------------------------------------

.PHONY: demo
demo: venv demo-packages ## Build three images, change one page, build again, show what changed
	@specs/demo.sh $(abspath $(BUILDER))

.PHONY: images
images: $(IMAGES:%=build/%.digest) ## Build all images of specs/

.PHONY: $(IMAGES:%=image-%)
$(IMAGES:%=image-%): image-%: build/%.digest
	@echo "$* $$(cat $<)"

.PHONY: plan
plan: venv ## Say what would be built, what reused, and why
	@$(BUILDER) plan

# build/NAME.stamp is as old as the start of its build, so that a file changed meanwhile is newer;
# build/NAME.d, written by the builder, makes it depend on every file that went into the image.
# The digest moves only when it changed: its own rule does nothing, and make looks at its time again.
build/%.stamp: specs/%.yaml | venv demo-packages
	@mkdir -p build
	@touch build/$*.start
	@$(BUILDER) build $* --depfile build/$*.d --iidfile $@
	@cmp -s $@ build/$*.digest || cp $@ build/$*.digest
	@touch -r build/$*.start $@

build/%.digest: build/%.stamp ;

.PRECIOUS: build/%.stamp
-include $(wildcard build/*.d)

# -- the project ---------------------------------------------------------------------------------

.PHONY: lint
lint: venv types ## Check style, types, which room imports which, and the specs
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports
	@$(BUILDER) lint

.PHONY: types
types: venv ## Check types
	@$(BIN)/mypy

.PHONY: fmt
fmt: venv ## Format the code and fix what can be fixed
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

.PHONY: test
test: venv test-packages ## Run the tests; what is skipped is listed by name with its reason
	@$(BIN)/python -m compileall -q builder  # thousands of short runs: none is to compile it again
	@$(BIN)/pytest -n 2 --dist loadfile -rs

.PHONY: check
check: lint test ## All that CI checks

.PHONY: docs
docs: venv ## Build the documents as a site, into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

.PHONY: man
man: venv ## Write the man pages, into build/man/man1
	@$(BUILDER) man build/man/man1

.PHONY: bench
bench: venv test-packages ## Measure beside docker build and buildah
	@mkdir -p build
	@$(BIN)/python benchmarks/run.py --json build/bench.json --plot build/bench.svg
	@echo "rows in build/bench.json, a plot in build/bench.svg"

.PHONY: clean
clean: ## Remove what was made here; the cache and .venv stay
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find builder tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
