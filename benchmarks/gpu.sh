#!/usr/bin/env bash
# Everything that only a machine with a GPU can show, in one run: the engine built with warnings as errors, the C++
# tests plainly and under compute-sanitizer, the Python tests on device cuda, the benchmark. Dictionaries beyond the
# memory and parts of one are among all three; with two GPUs or more, so is sharing. Goes on after a failure; the exit
# status is the number of steps that failed. Results: benchmarks/results/cuda.md.
#
#   PYTHON=python3 benchmarks/gpu.sh [--quick]
#
# PYTHON needs torch with CUDA, pybind11 and scipy; for the tests pytest, hypothesis and open_clip_torch besides.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
BUILD=build/gpu
failed=()

step() {
  local name=$1
  shift
  printf '\n== %s\n' "$name"
  "$@" || failed+=("$name")
}

build() {
  cmake -S . -B "$BUILD" -G Ninja -DHEADSCAN_CUDA=ON -DHEADSCAN_BUILD_TESTS=ON -DHEADSCAN_WARNINGS_AS_ERRORS=ON \
    -DPython_EXECUTABLE="$(command -v "$PYTHON")" \
    -Dpybind11_DIR="$("$PYTHON" -m pybind11 --cmakedir)" &&
    cmake --build "$BUILD" && cp "$BUILD"/csrc/_c*.so python/headscan/core/
}

sanitized() { compute-sanitizer --tool "$1" --error-exitcode 1 "$BUILD/tests/cpp/test_cuda"; }

python_tests() {  # a skip for want of a device is a failure here
  local log=$BUILD/pytest.log
  "$PYTHON" -m pytest -p no:cacheprovider tests 2>&1 | tee "$log" && ! grep -E 'SKIPPED.*(CUDA|cuda) (engine|device can)' "$log"
}

export PYTHONPATH=python${PYTHONPATH:+:$PYTHONPATH}
step build build
step doctor "$PYTHON" -c 'from headscan.cli import main; raise SystemExit(main(["doctor"]))'
step "C++ tests" ctest --test-dir "$BUILD" --output-on-failure
step "C++ test on the GPU, not skipped" "$BUILD/tests/cpp/test_cuda"
step memcheck sanitized memcheck
step racecheck sanitized racecheck
step synccheck sanitized synccheck
step "Python tests" python_tests
step benchmark "$PYTHON" benchmarks/gpu.py "$@"

printf '\n%s steps failed%s\n' "${#failed[@]}" "${failed[*]:+: ${failed[*]}}"
exit "${#failed[@]}"
