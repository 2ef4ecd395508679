# make demo and make test need Python 3.11 to 3.14 and nothing else; both make .venv on their first run.
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
# optimum-onnx, which holds transformers below 4.58, for the tests that compare its exporter with ours
EXTRAS ?= cpu,train,optimum-onnx,mini,dev
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo $$p && break; done)
STAMP := $(VENV)/installed
RELEASE := .venv-release
RUN := $(VENV)/bin/python -m
# what runs, loads, exports or trains a network of transformers
TRANSFORMERS_TESTS := tests/export tests/nuner_embed/models tests/nuner_embed/runtimes tests/nuner_embed/pretraining \
	tests/nuner_embed/heads tests/nuner_embed/evaluation tests/cli/test_finetune.py tests/cli/test_pretrain.py \
	tests/cli/test_probe.py
TESTS ?=

.PHONY: demo test test-slow test-transformers5 check types dist nuner-mini nuner-base clean

demo: $(STAMP)
	$(VENV)/bin/nuner-embed demo -o demo

# in the order of their names, in which the longest files, of the command line, come first; a test that hangs ends its
# process and is tried once more
PYTEST := $(RUN) pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 1
test: $(STAMP)
	$(PYTEST) $(TESTS)

# what make test leaves out
test-slow: $(STAMP)
	$(PYTEST) -m slow $(TESTS)

# the tests that touch transformers, in an environment of its own that has transformers 5
test-transformers5:
	$(MAKE) test VENV=.venv-transformers5 CONSTRAINTS=constraints-transformers5.txt \
		EXTRAS=cpu,train,mini,dev TESTS="$(TRANSFORMERS_TESTS)"

check: $(STAMP) types
	$(RUN) ruff check .
	$(RUN) ruff format --check .

# mypy does not know setuptools' package-dir: it is shown a tree of links that looks as an installation does
types: $(STAMP)
	rm -rf .types && mkdir -p .types/nuner_embed
	ln -s $(addprefix ../../,$(wildcard nuner_embed/*)) ../../cli ../../export ../../indexes .types/nuner_embed/
	MYPYPATH=.types $(RUN) mypy --config-file pyproject.toml -p nuner_embed

# what a release consists of: the source distribution, and the wheel that is built from it
dist: $(RELEASE)/installed
	rm -rf dist build && $(RELEASE)/bin/python -m build --no-isolation --outdir dist .
	$(RELEASE)/bin/python -m twine check --strict dist/*
	$(RELEASE)/bin/python tests/support/wheel_contents.py dist/*.whl

$(RELEASE)/installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(RELEASE)
	PIP_CONSTRAINT=$(CONSTRAINTS) $(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check build setuptools twine
	touch $@

# the data does not come with the repository: DATA names its folder
nuner-mini nuner-base: $(STAMP)
	$(if $(DATA),NUNER_EMBED_DATA=$(DATA) )$(VENV)/bin/python benchmarks/nuner_models.py $@

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12, 3.13 or 3.14 is needed; name one with make PYTHON=/path/to/python3"; exit 1; }
	@echo "installing into $(VENV) once; this takes a minute or two"
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=$(CONSTRAINTS) $(RUN) pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) .venv-transformers5 $(RELEASE) .types build dist *.egg-info demo
