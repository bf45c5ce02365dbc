# Needs python3 (3.11 or newer) with venv, and make. `make` alone lists what there is.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help run test check lint types contracts lock bench acceptance deb man site clean

help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: .venv/runtime  ## install into .venv and try the daemon on loopback, with everything below ./var
	$(BIN)/bounced try var

test: .venv/dev  ## every test; what needs a Debian package skips with its name
	$(BIN)/python -m pytest

check: lint types contracts  ## style, types, import contracts

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev
	$(BIN)/mypy

contracts: .venv/dev
	$(BIN)/lint-imports --no-cache

bench: .venv/dev  ## every benchmark, as JSON lines with peer, ratio and spread
	for program in benchmarks/*.py; do $(BIN)/python -m benchmarks.$$(basename $$program .py) || exit 1; done

acceptance: .venv/dev  ## the same tests at full counts: hours, and root
	BOUNCED_ACCEPTANCE=1 BOUNCED_REQUIRE_ALL=1 $(BIN)/python -m pytest

deb:  ## a Debian package with everything in it, dist/bounced_VERSION_ARCH.deb
	packaging/build

man: .venv/runtime  ## the manual pages, below build/man
	$(BIN)/python packaging/manpages.py build/man

site: .venv/dev  ## the documents as a web site, below build/site
	$(BIN)/pip install --quiet --disable-pip-version-check 'mkdocs>=1.6' 'pymdown-extensions>=10'
	rm -rf build/docs && mkdir -p build && cp -r docs build/docs
	for page in README.md README.ja.md CHANGELOG.md; do sed 's|(docs/|(|g' $$page > build/docs/$$page; done && mv build/docs/README.md build/docs/index.md
	sed -i 's|(README.md)|(index.md)|' build/docs/README.ja.md
	sed -i '1s/$$/ (日本語)/' build/docs/README.ja.md
	sed -i -E 's/^( *```sh) .*/\1/' build/docs/*.md  # the words after it are for the tests that run these lines
	sed -i 's/^   /    /' build/docs/index.md build/docs/README.ja.md  # by less Python-Markdown takes nothing for a part of a list
	cp packaging/site.css build/docs/
	$(BIN)/mkdocs build --quiet --strict --config-file packaging/mkdocs.yml --site-dir ../build/site

lock: .venv/dev  ## write the lock files anew from pyproject.toml
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --extra dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf .venv build dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/runtime: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

.venv/dev: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@ .venv/runtime
