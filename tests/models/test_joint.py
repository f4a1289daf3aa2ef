"""The map into joint space against the module's own layer norm and projection, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import headscan as hs
from conftest import build_module
from headscan.common.vectors import cosine, normalise
from headscan.models.joint import _pseudo_inverse


def own_joint(module, vectors, mean=None):
    """The module's own final layer norm and projection, in float64."""
    visual = module.visual.double()
    with torch.no_grad():
        joint = (visual.ln_post(torch.from_numpy(vectors)) @ visual.proj).numpy()
    joint = joint / np.linalg.norm(joint, axis=1, keepdims=True)
    if mean is not None:
        joint = joint - mean
        joint = joint / np.linalg.norm(joint, axis=1, keepdims=True)
    return joint


@pytest.fixture
def vectors():
    return normalise(np.random.default_rng(0).standard_normal((6, 32)))


@pytest.mark.parametrize(
    "vision", [{}, {"norm_kwargs": {"eps": 1e-3}}, {"norm_kwargs": {"elementwise_affine": False}}]
)
def test_joint_space_is_the_modules_own(vectors, image_mean, vision):
    module = build_module(**vision)
    for mean in (None, image_mean):
        found = hs.joint_map(hs.load_model(module, image_mean=mean)).to_joint(vectors)
        np.testing.assert_allclose(found, own_joint(module, vectors, mean), atol=1e-13)


def test_each_pole_has_its_own_image(model, vectors):
    joint = hs.joint_map(model)
    assert not np.allclose(joint.to_joint(-vectors), -joint.to_joint(vectors), atol=1e-3)


def test_the_way_back_inverts_the_projection(model, vectors):
    joint = hs.joint_map(model)
    rows = joint.to_joint(vectors)
    back = joint.to_width(rows) @ joint.final.projection  # the projection is onto
    np.testing.assert_allclose(back, normalise(rows + model.image_mean), atol=1e-12)


def test_the_length_of_a_reconstruction_does_not_matter(model, vectors):
    for joint in (hs.joint_map(model), hs.joint_map(hs.load_model(build_module()))):
        rows = joint.to_joint(vectors)
        np.testing.assert_allclose(joint.to_width(3 * rows), joint.to_width(rows), atol=1e-14)


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (24, 24)])
@pytest.mark.parametrize("smallest", [1.0, 1e-2, 1e-7, 0.0])
def test_the_pseudo_inverse_is_numpys_for_any_condition(shape, smallest, monkeypatch):
    rng, least = np.random.default_rng(0), min(shape)
    u, v = (np.linalg.qr(rng.standard_normal((size, least)))[0] for size in shape)
    matrix = u * np.append(rng.uniform(1.0, 2.0, least - 1), smallest) @ v.T
    expected = np.linalg.pinv(matrix)
    if smallest >= 1e-2:
        monkeypatch.delattr(np.linalg, "pinv")
    # A condition of 200, squared, leaves some eleven digits.
    np.testing.assert_allclose(_pseudo_inverse(matrix), expected, atol=1e-10 * np.abs(expected).max())


def test_rows_that_vanish_stay_zero():
    rows = np.array([[0.0, 0.0], [3.0, 4.0], [1e-200, 0.0]])
    np.testing.assert_array_equal(normalise(rows), [[0.0, 0.0], [0.6, 0.8], [0.0, 0.0]])
    np.testing.assert_array_equal(cosine(rows, rows), [0.0, 1.0, 0.0])


def test_a_zero_direction_maps_to_finite_numbers(model):
    joint = hs.joint_map(model)
    assert np.isfinite(joint.to_joint(np.zeros((1, 32)))).all()
    assert np.isfinite(joint.to_width(np.zeros((1, 24)))).all()
