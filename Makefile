# make quickstart   real images, a tokenizer, CAE pre-training, probes and fine-tuning, in about ten minutes on two cores
# make evidence     what pre-training is worth: three seeds, probes, few labels, ablations; about an hour; docs/results.md
# make test         style and all tests on this Paddle, unit and parity tests on the oldest one supported
# make test-slow    fuzzers, kill loops, long runs: what takes an hour rather than minutes; ends with the counts
# make clean        removes environments and build files; leaves `output/` and `datasets/`

PYTHON ?= python3
OLDEST_PADDLE = 2.6.2
BIN = .venv/bin
OLD = .venv-$(OLDEST_PADDLE)/bin
# Tests are small: two processes of one thread each are faster than one of two.
PYTEST = OMP_NUM_THREADS=1 $(1)/python -m pytest -q -n 2 --dist loadfile

.PHONY: quickstart evidence test test-style test-current test-oldest test-slow clean

quickstart: .venv/quickstart.done
	$(BIN)/python tools/prepare_digits.py
	$(BIN)/python tools/quickstart.py

evidence: .venv/quickstart.done
	$(BIN)/python tools/prepare_digits.py
	$(BIN)/python tools/evidence.py

test: test-style test-oldest test-current

test-style: .venv/test.done
	$(BIN)/ruff check .

test-current: .venv/test.done
	$(call PYTEST,$(BIN)) tests

test-oldest: .venv-$(OLDEST_PADDLE)/test.done
	$(call PYTEST,$(OLD)) tests --ignore=tests/integration --ignore=tests/distributed

test-slow: .venv/test.done
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

clean:
	rm -rf .venv .venv-$(OLDEST_PADDLE) build dist *.egg-info
