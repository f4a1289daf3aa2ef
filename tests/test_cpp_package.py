"""The core as a C++ library: built, installed, found by find_package, and used by a program outside."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CMAKE = Path(sys.executable).parent / "cmake"


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def no_shared_code_in_instruction_set_objects(build):
    """A function that the linker may merge across objects could run AVX-512 code where there is none."""
    objects = [path for path in build.rglob("*.o") if "avx" in path.name]
    assert len(objects) >= 4
    for path in objects:
        merged = [line for line in run("nm", "--demangle", path).splitlines() if " W " in line]
        assert not merged, f"{path.name} shares {merged}"


@pytest.mark.skipif(not CMAKE.exists(), reason="needs cmake in the environment: pip install headscan[test]")
def test_find_package(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{CMAKE.parent}{os.pathsep}{os.environ['PATH']}")
    generator = ["-G", "Ninja"]
    run(
        CMAKE,
        "-S",
        ROOT,
        "-B",
        tmp_path / "build",
        *generator,
        "-DHEADSCAN_BUILD_PYTHON=OFF",
        "-DHEADSCAN_BUILD_TESTS=ON",
        "-DHEADSCAN_WARNINGS_AS_ERRORS=ON",
    )
    run(CMAKE, "--build", tmp_path / "build")
    no_shared_code_in_instruction_set_objects(tmp_path / "build")
    run(CMAKE.with_name("ctest"), "--test-dir", tmp_path / "build", "--output-on-failure")
    run(CMAKE, "--install", tmp_path / "build", "--component", "cpp", "--prefix", tmp_path / "prefix")
    run(
        CMAKE,
        "-S",
        ROOT / "tests" / "cpp" / "consumer",
        "-B",
        tmp_path / "consumer",
        *generator,
        f"-DCMAKE_PREFIX_PATH={tmp_path / 'prefix'}",
    )
    run(CMAKE, "--build", tmp_path / "consumer")
    assert run(tmp_path / "consumer" / "consumer").split() == ["1", "0.5", "1"]
