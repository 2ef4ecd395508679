# make demo and make test need Python 3.11 to 3.13 and nothing else; both make .venv on their first run.
VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
STAMP := $(VENV)/installed
RUN := $(VENV)/bin/python -m

.PHONY: demo test test-slow check types wheel nuner-mini clean

demo: $(STAMP)
	$(VENV)/bin/nuner-embed demo -o demo

# in the order of their names, in which the longest files, of the command line, come first
test: $(STAMP)
	$(RUN) pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# what make test leaves out
test-slow: $(STAMP)
	$(RUN) pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m slow

check: $(STAMP) types
	$(RUN) ruff check .
	$(RUN) ruff format --check .

# mypy does not know setuptools' package-dir: it is shown a tree of links that looks as an installation does
types: $(STAMP)
	rm -rf .types && mkdir -p .types/nuner_embed
	ln -s $(addprefix ../../,$(wildcard nuner_embed/*)) ../../cli ../../export ../../indexes .types/nuner_embed/
	MYPYPATH=.types $(RUN) mypy --config-file pyproject.toml -p nuner_embed

wheel: $(STAMP)
	rm -rf dist build && $(RUN) build --wheel --outdir dist .
	$(VENV)/bin/python tests/support/wheel_contents.py dist/*.whl

# the data does not come with the repository: DATA names its folder
nuner-mini: $(STAMP)
	$(if $(DATA),NUNER_EMBED_DATA=$(DATA) )$(VENV)/bin/python benchmarks/nuner_mini.py

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; name one with make PYTHON=/path/to/python3"; exit 1; }
	@echo "installing into $(VENV) once; this takes a minute or two"
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(RUN) pip install --quiet --disable-pip-version-check --editable '.[cpu,train,mini,dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) .types build dist *.egg-info demo
