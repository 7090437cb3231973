# make quickstart   real images, a tokenizer, CAE pre-training, probes and fine-tuning, in about ten minutes on two cores
# make evidence     what pre-training is worth: three seeds, probes, few labels, ablations; about an hour; docs/results.md
# make test         style and all tests on this Paddle, unit and parity tests on the oldest one supported
# make test-slow    fuzzers, kill loops, long runs: what takes an hour rather than minutes; ends with the counts
# make test-lowest  unit and parity tests with the lowest versions that setup.py allows, on LOWEST_PYTHON; docs/supply.md
# make docs        the documentation site, in build/site; `.venv/bin/mkdocs serve` shows it with search
# make clean        removes environments and build files; leaves `output/` and `datasets/`

PYTHON ?= python3
OLDEST_PADDLE = 2.6.2
LOWEST_PYTHON ?= python3.9
BIN = .venv/bin
OLD = .venv-$(OLDEST_PADDLE)/bin
LOW = .venv-lowest/bin
# Tests are small: two processes of one thread each are faster than one of two.
PYTEST = OMP_NUM_THREADS=1 $(1)/python -m pytest -q -n 2 --dist loadfile

.PHONY: quickstart evidence test test-style test-current test-oldest test-lowest test-slow docs clean

quickstart: .venv/quickstart.done
	$(BIN)/python tools/digits/prepare.py
	$(BIN)/python tools/digits/quickstart.py

evidence: .venv/quickstart.done
	$(BIN)/python tools/digits/prepare.py
	$(BIN)/python tools/digits/evidence.py

test: test-style test-oldest test-current

test-style: .venv/test.done
	$(BIN)/ruff check .
	$(BIN)/mypy

test-current: .venv/test.done .venv/docs.done
	$(call PYTEST,$(BIN)) tests

test-oldest: .venv-$(OLDEST_PADDLE)/test.done
	$(call PYTEST,$(OLD)) tests --ignore=tests/integration --ignore=tests/distributed

test-lowest: .venv-lowest/test.done
	$(call PYTEST,$(LOW)) tests --ignore=tests/integration --ignore=tests/distributed

# atheris has wheels for some versions of Python only; its tests are skipped without it.
test-slow: .venv/test.done
	-$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[fuzz]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -s tests

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9) and "plsc needs Python 3.9 or newer, this is " + sys.version)'
	$(PYTHON) -m venv .venv

.venv/%.done: .venv/bin/python setup.py
	$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[cpu,quickstart,fast,$*]"
	@touch $@

.venv-$(OLDEST_PADDLE)/test.done: setup.py
	$(PYTHON) -m venv .venv-$(OLDEST_PADDLE)
	$(OLD)/python -m pip install -q --disable-pip-version-check -e ".[quickstart,fast,test]" \
		paddlepaddle==$(OLDEST_PADDLE) "numpy<2" "protobuf<5" setuptools
	@touch $@

.venv-lowest/test.done: setup.py tools/lowest.py
	$(LOWEST_PYTHON) -m venv .venv-lowest
	$(LOW)/python tools/lowest.py > .venv-lowest/lowest.txt
	$(LOW)/python -m pip install -q --disable-pip-version-check -U pip
	$(LOW)/python -m pip install -q --disable-pip-version-check -e ".[cpu,quickstart,fast,test]" setuptools \
		-c .venv-lowest/lowest.txt
	@touch $@

docs: .venv/docs.done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv .venv-$(OLDEST_PADDLE) .venv-lowest build dist *.egg-info
