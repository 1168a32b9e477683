# make demo      install into .venv, train two grids with live output, say where everything lies
# make test      the tests (what .ci/run calls)
# make docs      the tables that come from the code, and the pages of docs/ as HTML
# make thorough  2,000 random grids against the oracle, 50 kills of a training, every backend
# make science   a table of longer runs beside published figures, in two hours; goes on where it was; ROW=parity-16 for one row
# make examples  every network learns something small: a page of results in results/index.html, in a quarter of an hour
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo
WORKERS ?= 2

.PHONY: demo test thorough bench examples science docs pictures lint clean

demo: .venv/installed
	@rm -rf $(DEMO)
	@echo "\n=== 1 of 2: parity. A 1-Grid LSTM begins at chance, and soon sees it. ==="
	$(BIN)/gridc train specs/parity.yaml --folder $(DEMO)/parity
	@echo "\n=== 2 of 2: digits. A grid over rows × columns × depth reads scanned digits. ==="
	$(BIN)/gridc train specs/digits.yaml --folder $(DEMO)/digits
	@echo "\n=== What was made ==="
	@$(BIN)/python docs/after_demo.py $(DEMO)/parity $(DEMO)/digits

test: .venv/tested .venv-aeon/tested
	$(BIN)/python -m pytest -n $(WORKERS) -m "not thorough" --ignore tests/test_aeon.py
	.venv-aeon/bin/python -m pytest tests/test_aeon.py

thorough: .venv/tested
	GRIDC_EXAMPLES=2000 $(BIN)/python -m pytest -n $(WORKERS)

examples: .venv/installed
	$(BIN)/python examples/run_all.py

science: .venv/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt mnist1d==0.0.2.post1
	$(BIN)/python examples/science/run.py $(if $(ROW),--row $(ROW)) --workers $(WORKERS)

bench: .venv-bench/installed
	@mkdir -p runs
	.venv-bench/bin/gridc bench --all --json runs/bench.json --markdown runs/bench.md --png runs/bench.png

.venv-bench/installed: pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --upgrade pip
	.venv-bench/bin/pip install --quiet torch==2.13.0
	.venv-bench/bin/pip install --quiet -e ".[plots,jax]"
	touch $@

docs: .venv/tested
	$(BIN)/python docs/tables.py
	$(BIN)/python -m sphinx -qW --keep-going docs docs/_build
	@echo "The pages: docs/_build/index.html"

# The pictures that README.md and docs/ show; that of the page to explore takes a Chromium on the path.
pictures: .venv/installed
	$(BIN)/python docs/pictures.py

lint: .venv/tested
	$(BIN)/ruff check . && $(BIN)/pyright

clean:
	rm -rf .venv .venv-aeon runs build dist .pytest_cache .ruff_cache .hypothesis docs/_build

# aeon asks for older versions of Numba and pandas than those that gridc is tested with.
.venv-aeon/tested: pyproject.toml constraints.txt
	@echo "Installing aeon, and gridc beside it, into .venv-aeon …"
	@$(PYTHON) -m venv .venv-aeon
	@grep -Ev '^(numba|llvmlite|numpy|pandas)==' constraints.txt >.venv-aeon/constraints.txt
	@.venv-aeon/bin/python -m pip install --quiet --disable-pip-version-check --constraint .venv-aeon/constraints.txt \
		--editable '.[aeon]' pytest hypothesis
	@touch $@

.venv/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gridc needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/created pyproject.toml constraints.txt
	@echo "Installing gridc into .venv …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[plots]' scikit-learn
	@touch $@

.venv/tested: .venv/installed
	@echo "Installing what the tests need into .venv …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@
