"""The CUDA engine: what is said where it cannot run, its Python side over a stand-in, and runs on a device."""

import ctypes
import math
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import headscan as hs
from headscan.cli import main
from headscan.core import _core, cuda, devices
from reference import unit_rows

ONE = {"index": 0, "name": "Stand-in", "capability": (9, 0), "memory_bytes": 2**30}


class StandIn:
    """The compiled engine's interface over the CPU engine: addresses in this process's memory."""

    def __init__(self, count):
        self.found = [ONE | {"index": index} for index in range(count)]
        self.calls, self.uploads, self.decomposed = [], [], []
        self.fitting = set(range(count))

    def toolkit_version(self):
        return "13.0"

    def targets(self):
        return "80-real"

    def devices(self):
        return self.found

    def fits(self, dictionary, *, device):
        return device in self.fitting

    def Dictionary(self, dictionary, *, device, first, rows, memory_bytes):  # noqa: N802
        self.uploads.append(device)
        return SimpleNamespace(dictionary=dictionary, rows=range(first, first + rows), memory_bytes=memory_bytes)

    def DeviceArray(self, *, address, shape, dtype):  # noqa: N802
        kind = {"float32": ctypes.c_float, "float64": ctypes.c_double, "int64": ctypes.c_int64, "bool": ctypes.c_bool}
        return np.ctypeslib.as_array((kind[dtype] * math.prod(shape)).from_address(address)).reshape(shape)

    def comp(self, x, parts, *, options, stream, rescored, **outputs):
        self.calls.append((len(x), stream))
        assert [row for part in parts for row in part.rows] == list(range(parts[-1].rows.stop))
        assert all(part.rows.start % 64 == 0 and part.rows for part in parts)
        *results, _ = _core.comp(x, parts[0].dictionary, options=options)
        for name, result in zip(("indices", "coefficients", "certified"), results, strict=True):
            outputs[name][:] = result
        rescored[:] = 7

    def svd_factored(self, left, right, *, device, stream, **outputs):
        self.decomposed.append((len(left), device, stream))
        for name, result in zip(("u", "s", "vh"), hs.svd_factored(left, right, device="cpu"), strict=True):
            outputs[name][:] = result


@pytest.fixture
def stand_in(monkeypatch):
    engine = StandIn(2)
    monkeypatch.setattr(devices, "engine", lambda: engine)
    monkeypatch.setattr(cuda, "_torch_device", lambda index: torch.device("cpu"))
    monkeypatch.setattr(cuda, "_stream", lambda index: 100 + index)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return engine


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    return unit_rows(rng, 9, 16, np.float64), hs.pack(unit_rows(rng, 200, 16))


def same(left, right):
    for name in ("indices", "coefficients", "certified"):
        np.testing.assert_array_equal(np.asarray(getattr(left, name)), np.asarray(getattr(right, name)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("device", ["cuda", "cuda:1", ("cuda:1", "cuda:0")])
def test_queries_are_shared_out_and_codes_come_back(stand_in, case, device, dtype):
    x, packed = case[0].astype(dtype), case[1]
    x.flags.writeable = False
    codes = hs.comp(x, packed, k=3, device=device)
    same(codes, hs.comp(x, packed, k=3))
    expected = {"cuda": [(9, 100)], "cuda:1": [(9, 101)]}.get(device, [(5, 101), (4, 100)])
    assert stand_in.calls == expected
    assert codes.counters.rescored == 63 and codes.counters.multiply_adds == 3 * 9 * 200 * 16


def test_a_dictionary_is_uploaded_once_a_device_and_dropped_with_it(stand_in, case):
    x, packed = case
    for device in ("cuda", "cuda:0", "cuda:1", "cuda:1"):
        hs.comp(x, packed, device=device)
    assert stand_in.uploads == [0, 1]
    before = len(cuda._uploads)
    hs.comp(x, packed.atoms, device="cuda")  # packed in passing
    assert len(stand_in.uploads) == 3 and len(cuda._uploads) == before


@pytest.mark.parametrize(("rows", "devices"), [(200, (0, 1)), (129, (0, 1)), (60, (0,))])
def test_devices_that_cannot_each_hold_a_dictionary_share_it(stand_in, rows, devices):
    rng = np.random.default_rng(0)
    x, packed = unit_rows(rng, 9, 16, np.float64), hs.pack(unit_rows(rng, rows, 16))
    stand_in.fitting = {0}
    for _ in range(2):
        same(hs.comp(x, packed, device=("cuda:0", "cuda:1")), hs.comp(x, packed))
    assert stand_in.uploads == list(devices)  # once
    assert stand_in.calls == [(9, 100)] * 2
    stand_in.fitting = set()
    same(hs.comp(x, packed, device="cuda:1"), hs.comp(x, packed))  # streamed
    assert stand_in.uploads == [*devices, 1] and stand_in.calls[-1] == (9, 101)


def test_where_it_fits_each_device_it_is_not_shared_later(stand_in, case):
    x, packed = case
    for fitting in ({0, 1}, set()):  # what was free is taken by the dictionary itself
        stand_in.fitting = fitting
        hs.comp(x, packed, device=("cuda:0", "cuda:1"))
    assert stand_in.uploads == [0, 1] and len(stand_in.calls) == 4


def test_svd_goes_there_and_back(stand_in):
    rng = np.random.default_rng(1)
    left, right = rng.standard_normal((3, 9, 4)), rng.standard_normal((3, 4, 7))
    for there, here in zip(hs.svd_factored(left, right, device="cuda"), hs.svd_factored(left, right), strict=True):
        np.testing.assert_array_equal(there, here)
    tensors = hs.svd_factored(torch.from_numpy(left), torch.from_numpy(right), device="cuda")
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors)


def test_a_scan_decomposes_and_explains_there(stand_in, model, dictionary):
    options: dict[Any, Any] = {"parts": ("vo", "qk", "mlp"), "layers": "1-2", "significance": 50, "k": 3}
    there = hs.scan(model, dictionary, device="cuda:1", **options).table()
    here = hs.scan(model, dictionary, **options).table()
    shown = here.sigma > 1e-9  # a centred matrix has a null direction, and any will do
    pd.testing.assert_frame_equal(there[shown], here[shown])
    assert stand_in.decomposed == [(4, 1, 101)] * 4  # the four heads' value-output and query-key products of a layer
    families = there.groupby(["part", "side"]).ngroups  # 50 random directions each
    assert sum(rows for rows, _ in stand_in.calls) == len(there) + 50 * families
    assert {stream for _, stream in stand_in.calls} == {101}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.full((2, 16), np.nan)}, ValueError, "row 0 holds NaN"),
        ({"x": np.full((2, 16), 1e38)}, ValueError, "row 0: its norm"),
        ({"x": np.ones(16)}, ValueError, "2 dimensions"),
        ({"x": np.ones((2, 16), int)}, TypeError, "float32 or float64"),
        ({"method": "omp"}, hs.HeadscanError, "'omp' runs on the CPU alone"),
        ({"k": 201}, ValueError, "number of atoms"),
        ({"device": "cuda:7"}, hs.HeadscanError, "cuda:7 is not there: the devices are cuda:0, cuda:1"),
        ({"device": "tpu"}, hs.HeadscanError, "device must be 'cpu', 'cuda'"),
        ({"device": ("cuda:0", "cuda:0")}, hs.HeadscanError, "distinct"),
        ({"device": ("cuda:0", "cpu")}, hs.HeadscanError, "distinct"),
    ],
)
def test_bad_input_is_refused(stand_in, case, change, error, message):
    options: dict[Any, Any] = {"x": case[0], "device": "cuda"} | change
    with pytest.raises(error, match=message):
        hs.comp(options.pop("x"), case[1], **options)


@pytest.mark.parametrize("left", [np.ones((3, 4, 2)), np.full((2, 4, 3), np.nan), np.ones((4, 3))])
def test_bad_factors_are_refused(stand_in, left):
    with pytest.raises(ValueError, match="left"):
        hs.svd_factored(left, np.ones((2, 3, 4)), device="cuda")


@pytest.fixture
def not_built(monkeypatch):
    monkeypatch.setitem(sys.modules, "headscan.core._cuda", None)


def test_without_the_engine_asking_for_it_is_an_error(not_built, case, capsys, tmp_path):
    with pytest.raises(hs.HeadscanError, match="no CUDA engine: install it again where nvcc is found"):
        hs.comp(*case, device="cuda")
    assert main.main(["scan", "demo", "--device", "cuda", "--out", str(tmp_path / "out")]) == 2
    assert "no CUDA engine" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main.main(["doctor"]) == 0
    assert "no CUDA engine" in capsys.readouterr().out


def test_without_a_driver_asking_for_a_device_is_an_error(stand_in, case, monkeypatch, capsys):
    def devices():
        raise RuntimeError("no CUDA-capable device is detected")

    monkeypatch.setattr(stand_in, "devices", devices)
    with pytest.raises(hs.HeadscanError, match="no CUDA device can be used: no CUDA-capable device"):
        hs.comp(*case, device="cuda")
    assert main.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "built with CUDA 13.0 for 80-real" in out and "none: no CUDA-capable device" in out


def test_doctor_names_the_devices(stand_in, capsys):
    assert main.main(["doctor"]) == 0
    assert "cuda:1 Stand-in (compute 9.0, 1 GiB)" in capsys.readouterr().out


def test_a_torch_without_cuda_is_told(stand_in, case, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(hs.HeadscanError, match="torch has no CUDA"):
        hs.comp(*case, device="cuda")


def test_importing_headscan_leaves_the_engine_alone():
    code = "import sys, headscan; print('headscan.core._cuda' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_the_built_engine_loads_without_a_driver():
    module = pytest.importorskip("headscan.core._cuda", reason="this build has no CUDA engine: nvcc was not found")
    assert "80-real" in module.targets() and "90-virtual" in module.targets()
    try:
        module.devices()
    except hs.HeadscanError as error:
        assert str(error)  # the driver's own words


def test_the_built_engine_refuses_arrays_of_another_shape_or_dtype():
    engine = pytest.importorskip("headscan.core._cuda", reason="this build has no CUDA engine: nvcc was not found")

    def array(*shape, dtype="float32"):
        return engine.DeviceArray(address=0, shape=shape, dtype=dtype)

    codes = {
        "indices": array(2, 5, dtype="int64"),
        "coefficients": array(2, 5, dtype="float64"),
        "certified": array(2, dtype="bool"),
        "rescored": array(2, dtype="int64"),
    }
    for x, change, message in (
        (array(2), {}, "x must have 2 dimensions, got 1"),
        (
            array(2, 8),
            {"indices": array(2, 4, dtype="int64")},
            r"indices must be int64 of shape \(2, 5\), got int64 of",
        ),
        (array(2, 8), {"certified": array(2)}, r"certified must be bool of shape \(2\), got float32 of \(2\)"),
        (array(2, 8, dtype="int64"), {}, "x must be float32 or float64, got int64"),
        (array(2, 8), {}, "a dictionary has at least one part"),
    ):
        with pytest.raises(hs.HeadscanError, match=message):
            engine.comp(x, [], options=_core.CompOptions(), **(codes | change))
    with pytest.raises(hs.HeadscanError, match=r"u must be float32 of shape \(3, 4, 2\)"):
        engine.svd_factored(array(3, 4, 2), array(3, 2, 4), u=array(1), s=array(1), vh=array(1), device=0)


class TestOnADevice:
    @pytest.fixture
    def large(self):
        rng = np.random.default_rng(2)
        return unit_rows(rng, 700, 96, np.float64), hs.pack(unit_rows(rng, 5000, 96))

    def test_tensors_in_tensors_out_on_any_stream(self, cuda_device, large):
        x, packed = torch.from_numpy(large[0]).to(cuda_device), large[1]
        expected = hs.comp(*large)
        stream = torch.cuda.Stream(cuda_device)
        stream.wait_stream(torch.cuda.current_stream(cuda_device))
        with torch.cuda.stream(stream):
            codes = hs.comp(x, packed)
        stream.synchronize()
        assert codes.indices.device == codes.certified.device == cuda_device
        same(
            SimpleNamespace(**{name: getattr(codes, name).cpu() for name in vars(codes) if name != "counters"}),
            expected,
        )
        assert int(codes.counters.rescored) >= x.shape[0] * 5

    @pytest.mark.parametrize("memory_bytes", [1_500_000, 150_000])  # full-precision rows on the host; codes too
    def test_a_dictionary_larger_than_the_memory_is_streamed(self, cuda_device, large, memory_bytes):
        x, packed = large
        (part,) = cuda.upload(packed, (0,), memory_bytes=memory_bytes)
        assert (part.chunks > 1) == (memory_bytes < 1_000_000) and part.nbytes <= memory_bytes
        same(hs.comp(x, packed, device="cuda"), hs.comp(x, packed))

    def test_streaming_does_not_wait_either(self, cuda_device, large):
        x, packed = torch.from_numpy(large[0]).to(cuda_device), large[1]
        cuda.upload(packed, (0,), memory_bytes=150_000)
        hs.comp(x, packed)  # loads the kernels
        torch.cuda.synchronize()
        busy = torch.cuda.Event()
        torch.cuda._sleep(2_000_000_000)
        codes = hs.comp(x, packed)
        busy.record()
        assert not busy.query()
        np.testing.assert_array_equal(codes.indices.cpu(), hs.comp(*large).indices)

    def test_rows_that_are_not_finite_are_not_certified(self, cuda_device, large):
        x = torch.from_numpy(large[0][:3].copy()).to(cuda_device)
        x[1, 4] = torch.nan
        codes = hs.comp(x, large[1])
        assert codes.certified.tolist() == [True, False, True]
        assert (codes.indices[1] == -1).all() and (codes.coefficients[1] == 0).all()

    def test_calls_do_not_wait(self, cuda_device, large):
        x = torch.from_numpy(large[0]).to(cuda_device)
        hs.comp(x, large[1])  # uploads
        torch.cuda.synchronize()
        busy = torch.cuda.Event()
        torch.cuda._sleep(2_000_000_000)
        hs.comp(x, large[1])
        busy.record()
        assert not busy.query()

    def test_several_devices_give_the_same_codes(self, cuda_device, large):
        if torch.cuda.device_count() < 2:
            pytest.skip(f"needs two CUDA devices, this machine has {torch.cuda.device_count()}")
        same(hs.comp(*large, device=("cuda:0", "cuda:1")), hs.comp(*large))

    @pytest.mark.parametrize("memory_bytes", [0, 150_000])  # parts whole, parts streamed
    def test_a_dictionary_shared_by_several_devices_gives_the_same_codes(self, cuda_device, large, memory_bytes):
        if torch.cuda.device_count() < 2:
            pytest.skip(f"needs two CUDA devices, this machine has {torch.cuda.device_count()}")
        cuda.upload(large[1], (0, 1), memory_bytes=memory_bytes)
        same(hs.comp(*large, device=("cuda:0", "cuda:1")), hs.comp(*large))

    def test_factors_stay_there(self, cuda_device):
        rng = np.random.default_rng(3)
        left, right = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((5, 40, 8), (5, 8, 30)))
        there = hs.svd_factored(left.to(cuda_device), right.to(cuda_device))
        for result, expected in zip(there, hs.svd_factored(left, right), strict=True):
            assert result.device == cuda_device
            np.testing.assert_allclose(result.cpu(), expected, atol=1e-11)  # triplets of random matrices lie apart

    def test_half_the_data_elsewhere_is_refused(self, cuda_device, large):
        with pytest.raises(hs.HeadscanError, match="one device"):
            hs.svd_factored(torch.ones((1, 4, 2), device=cuda_device), torch.ones((1, 2, 4)))
        with pytest.raises(hs.HeadscanError, match="leave device out"):
            hs.comp(torch.from_numpy(large[0]).to(cuda_device), large[1], device="cpu")
