# Every target works from nothing: python3 (3.11 or newer) and make. The first one makes .venv; none needs root.
#   make test ARGS="-k resume"    make demo ARGS="--full"    make test TORCH=cpu|default    make test PYTHON=python3.12

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
ARGS ?=

# What is installed is all that is needed: a hidden download is a mistake.
offline := HF_HUB_OFFLINE=1

.DEFAULT_GOAL := help
.PHONY: help install demo test lint bench docs lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

install: $(READY) ## make .venv with the locked versions (the other targets do it when needed)

# Done again when the lock or the package's own description changes, or another torch is asked for.
$(READY): requirements.lock pyproject.toml tools/bootstrap $(if $(TORCH),FORCE)
	@PYTHON="$(PYTHON)" TORCH="$(TORCH)" tools/bootstrap
	@touch $@

FORCE:

demo: $(READY) ## align on English and on a mix, then caption an unseen drawing style in every language
	$(offline) $(BIN)/polylens demo $(ARGS)

test: $(READY) ## run the tests; skipped ones are listed with the reason
	$(offline) $(BIN)/python -m pytest $(ARGS)

lint: $(READY) ## ruff, mypy, and the contracts of imports between rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## run every benchmark: speed and memory against peers, both sides in one run
	@set -e; for file in benchmarks/[a-z]*.py; do \
		[ -e "$$file" ] || { echo "no benchmarks yet (benchmarks/README.md has the rules)"; break; }; \
		echo "== $$file"; $(offline) $(BIN)/python "$$file" $(ARGS); \
	done

docs: $(READY) ## build the site into site/, without a network; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

lock: $(READY) ## bring requirements.lock up to pyproject.toml (newest versions: ARGS=--upgrade)
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --generate-hashes --python-version 3.11 \
		--no-header --no-annotate --no-emit-index-url --quiet $(ARGS) --output-file requirements.lock

clean: ## delete caches and built files; .venv and runs/ stay
	rm -rf site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +
