"""What this machine can do at most, measured: int8 and float32 multiply-adds and bytes read per second."""

import ctypes
import functools
import platform
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("peaks.cpp")
RATES = {
    "int8_multiply_adds": "int8 multiply-adds (VPDPBUSD zmm)",
    "float32_multiply_adds": "float32 multiply-adds (FMA zmm)",
    "bytes_read": "bytes read from memory",
}


@functools.cache
def _library():
    """The compiled kernels, or None with the reason: no x86-64, or no g++."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return None, f"peaks are measured on x86-64 only, this is {platform.machine()}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peaks.so"
        command = ["g++", "-O3", "-shared", "-fPIC", "-pthread", str(SOURCE), "-o", str(path)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            return None, f"peaks.cpp did not compile: {getattr(error, 'stderr', '') or error}"
        return ctypes.CDLL(str(path)), None


def peak(name, threads, seconds=0.5):
    """One of RATES, per second over all threads; None where it cannot be measured."""
    library, _ = _library()
    if library is None:
        return None
    function = getattr(library, name)
    function.argtypes, function.restype = (ctypes.c_int, ctypes.c_double), ctypes.c_double
    rate = function(threads, seconds)
    return rate if rate > 0 else None


def describe(threads, seconds=0.5):
    """One line a peak, for the head of a table."""
    _, reason = _library()
    if reason:
        return [f"peaks: {reason}"]
    lines = []
    for name, meaning in RATES.items():
        rate = peak(name, threads, seconds)
        shown = f"{rate / 1e9:.1f} e9 / s" if rate else "not measured: this CPU lacks the instruction"
        lines.append(f"peak {meaning}: {shown}")
    return lines


if __name__ == "__main__":
    for count in (1, 2):
        print(f"{count} threads", *describe(count), sep="\n  ")
