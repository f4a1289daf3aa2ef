"""Image means: from arrays and files, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import save_file

import headscan as hs


def test_an_image_mean_comes_from_an_array_or_a_file(tmp_path, module, image_mean):
    np.save(tmp_path / "mean.npy", image_mean.astype(np.float32))
    save_numpy({"image_mean": image_mean}, tmp_path / "mean.safetensors")
    for source in (
        image_mean,
        tmp_path / "mean.npy",
        str(tmp_path / "mean.safetensors"),
        torch.tensor(image_mean),
        torch.tensor(image_mean, requires_grad=True),
    ):
        found = hs.load_model(module, image_mean=source).image_mean
        assert found is not None and found.dtype == np.float64
        np.testing.assert_allclose(found, image_mean, rtol=1e-6)  # float32 in one of the files


def test_an_image_mean_of_few_bits(tmp_path, module, image_mean):
    short = torch.tensor(image_mean, dtype=torch.bfloat16)
    save_file({"image_mean": short}, tmp_path / "short.safetensors")
    for source in (short, short.half(), tmp_path / "short.safetensors"):
        np.testing.assert_array_equal(hs.load_model(module, image_mean=source).image_mean, short.double())


def test_image_means_refused(tmp_path, module, image_mean):
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "archive.npz", image_mean=image_mean)
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    (tmp_path / "bad.npy").write_bytes(b"not numpy")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    save_numpy({"mean": image_mean}, tmp_path / "other.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x00" * 4)
    cases = [
        (image_mean[:-1], r"must be 24 floating-point numbers.*shape \(23,\)"),
        (np.arange(24), "got int64"),
        (image_mean * np.nan, "has length nan"),
        (image_mean * 10, "has length 4: a mean of normalised image embeddings has at most 1"),
        (tmp_path / "none.npy", "there is no image mean file"),
        ([[1.0], [1.0, 2.0]], "the image mean is not an array"),
        (torch.zeros(24, device="meta"), "the image mean is not an array"),
        ("~nosuchuser/mean.npy", "there is no home folder for ~nosuchuser"),
        (tmp_path / "empty.npy", "cannot read the image mean"),
        (tmp_path / "archive.npy", "cannot read the image mean"),
        (tmp_path / "bad.npy", "cannot read the image mean"),
        (tmp_path / "objects.npy", "cannot read the image mean"),
        (tmp_path / "other.safetensors", "has no tensor named image_mean"),
        (tmp_path / "bad.safetensors", "cannot read the image mean"),
    ]
    for source, says in cases:
        with pytest.raises(hs.HeadscanError, match=says):
            hs.load_model(module, image_mean=source)
