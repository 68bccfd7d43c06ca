# Everything runs in .venv, which the first target makes. PYTHON=… chooses another Python >= 3.11.
PYTHON ?= $(firstword $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p; done))
BIN := .venv/bin
# Without bytecode, importing torch takes ten seconds each time.
export PYTHONDONTWRITEBYTECODE :=
INSTALL := $(BIN)/uv pip install --quiet --override tools/overrides.txt --python $(BIN)/python

.PHONY: demo example test test-slow check gpu clean

demo: .venv/demo.stamp
	$(BIN)/cocabench run --model demo --tasks demo
	$(BIN)/cocabench report results --output reports/demo

# Makes the committed reports/example/ and the picture in README.md anew; the picture needs chromium.
example: .venv/dev.stamp
	$(BIN)/cocabench run --model demo,demo/coca-captioner --tasks demo --output build/example --quiet
	$(BIN)/python reports/example.py build/example

test: .venv/test.stamp
	$(BIN)/pytest -m "not slow" -n 2

test-slow: .venv/test.stamp
	$(BIN)/pytest -m slow -n 2 --dist worksteal --durations=40

# Everything that needs a GPU, within 8 minutes; on a machine without one it says what it would do. There it needs no
# network: what the Python with torch lacks comes from the wheels that `python -m benchmarks gpu --pack` put beside the tree.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
gpu:
	@test ! -d build/gpu/wheels/own || $(GPU_PYTHON) -c 'import cocabench, open_clip' 2>/dev/null \
	|| $(GPU_PYTHON) -m pip install --quiet --no-index --no-deps build/gpu/wheels/own/*.whl
	@$(GPU_PYTHON) -m benchmarks gpu --budget 8m

check: .venv/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict cocabench tools

.venv/demo.stamp: pyproject.toml | $(BIN)/uv
	$(INSTALL) -e .
	touch $@

.venv/test.stamp: .venv/demo.stamp
	$(INSTALL) -e '.[test]'
	touch $@

.venv/dev.stamp: .venv/demo.stamp
	$(INSTALL) -e '.[dev]'
	touch $@

# A Python without ensurepip (Debian's without python3-venv) may still have pip, which can install virtualenv aside.
$(BIN)/uv:
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 found; install one, or say which: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null && $(PYTHON) -m venv .venv \
	|| { $(PYTHON) -m pip install --quiet --target .venv/bootstrap virtualenv 2>/dev/null \
		&& PYTHONPATH=.venv/bootstrap $(PYTHON) -m virtualenv --quiet .venv; } \
	|| { echo "make: $(PYTHON) has neither ensurepip nor pip; install them (Debian: apt install python3-venv)"; rm -rf .venv; exit 1; }
	$(BIN)/python -m pip install --quiet uv

clean:
	rm -rf .venv build dist
