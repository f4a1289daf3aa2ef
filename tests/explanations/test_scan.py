"""Whole scans against the same mathematics in plain float64 NumPy, from the weights up to the picks."""

from __future__ import annotations

import numpy as np
import pytest

import headscan as hs
from conftest import build_module
from headscan.explanations.directions import CODES
from reference import comp_reference

# ---- the reference


def reference_scan(model, dictionary, *, layers, k, coherence):
    """Explain both sides and poles of every direction, plainly; rows ordered as in `Scan.table`."""
    rows = []
    weights = {name: value.detach().double().numpy() for name, value in model.module.visual.state_dict().items()}
    for layer in layers:
        for head in range(model.heads):
            u, sigma, vh = reference_svd(weights, layer=layer, head=head, rank=model.rank)
            for index in range(model.rank):
                for side, vector in (("write", vh[index]), ("read", u[:, index])):
                    for pole, sign in (("+", 1.0), ("-", -1.0)):
                        rows.append((layer, head, index, side, pole, sigma[index], sign * vector))
    vectors = np.array([row[-1] for row in rows])
    eps = model.module.visual.ln_post.eps
    images = reference_joint(vectors, weights, eps=eps, mean=model.image_mean)
    indices, coefficients = comp_reference(images, dictionary.atoms, k, coherence)
    rebuilt = np.einsum("nk,nke->ne", coefficients, dictionary.atoms[indices].astype(float))
    return (
        rows,
        indices,
        coefficients,
        reference_fidelity(vectors, rebuilt, weights, model.image_mean),
        images,
        rebuilt,
    )


def reference_svd(weights, *, layer, head, rank):
    """Decompose the folded, centred d x d product of one head by LAPACK."""
    block = f"transformer.resblocks.{layer}."
    width = weights["proj"].shape[0]
    mine = slice(head * rank, (head + 1) * rank)
    value = weights[block + "attn.in_proj_weight"][2 * width :][mine].T
    output = weights[block + "attn.out_proj.weight"][:, mine].T
    centre = np.eye(width) - np.ones((width, width)) / width
    product = centre @ np.diag(weights[block + "ln_1.weight"]) @ value @ output @ centre
    u, sigma, vh = np.linalg.svd(product)
    signs = np.sign(u[np.abs(u).argmax(axis=0), np.arange(width)])
    return (u * signs)[:, :rank], sigma[:rank], (vh * signs[:, None])[:rank]


def reference_joint(vectors, weights, *, eps, mean):
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    normed = centred / np.sqrt(centred.var(axis=1, keepdims=True) + eps)
    joint = unit((normed * weights["ln_post.weight"] + weights["ln_post.bias"]) @ weights["proj"])
    return joint if mean is None else unit(joint - mean)


def reference_fidelity(vectors, rebuilt, weights, mean):
    whole = unit(rebuilt)  # as published: normalised before the mean is added back
    whole = unit(whole if mean is None else whole + mean)
    return (unit(whole @ np.linalg.pinv(weights["proj"])) * vectors).sum(axis=1)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def assert_same_scan(model, dictionary, *, layers, k=5, coherence=0.3):
    table = hs.scan(
        model, dictionary, layers=layers, sides=("write", "read"), poles="both", k=k, coherence=coherence
    ).table()
    rows, indices, coefficients, fidelity, images, rebuilt = reference_scan(
        model, dictionary, layers=range(model.layers) if layers == "all" else layers, k=k, coherence=coherence
    )
    assert list(table[["layer", "head", "index", "side", "pole"]].itertuples(index=False, name=None)) == [
        row[:5] for row in rows
    ]
    found = table[[f"atom_{place}" for place in range(k)]].to_numpy()
    np.testing.assert_array_equal(found, indices)
    # Both are float64; what differs is the algorithm of the decomposition and the order of sums.
    np.testing.assert_allclose(table["sigma"], [row[5] for row in rows], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(table[[f"coefficient_{place}" for place in range(k)]], coefficients, atol=1e-8)
    np.testing.assert_allclose(table["fidelity"], fidelity, atol=1e-8)
    np.testing.assert_allclose(table["joint_fidelity"], (images * unit(rebuilt)).sum(axis=1), atol=1e-8)
    words = table[[f"concept_{place}" for place in range(k)]].to_numpy()
    np.testing.assert_array_equal(words, np.array(dictionary.texts, dtype=object)[indices])
    assert table["certified"].all()


@pytest.mark.parametrize(("k", "coherence"), [(5, 0.3), (3, 0.0), (1, 0.3), (8, 1.0)])
def test_the_whole_tiny_model_equals_the_reference(model, dictionary, k, coherence):
    assert_same_scan(model, dictionary, layers="all", k=k, coherence=coherence)


def test_without_an_image_mean(dictionary):
    model = hs.load_model(build_module())
    assert_same_scan(model, dictionary, layers=[1])


def test_the_whole_demo_model_equals_the_reference():
    model = hs.load_model("demo")
    assert_same_scan(model, hs.load_dictionary("demo", model=model), layers="all")


# ---- the options


def test_sides_poles_and_layers_are_subsets_of_the_whole(model, dictionary):
    whole = hs.scan(model, dictionary, sides=("write", "read")).table()
    part = hs.scan(model, dictionary, layers="1-2", sides="read", poles="-").table()
    wanted = whole[(whole.layer >= 1) & (whole.side == "read") & (whole.pole == "-")].reset_index(drop=True)
    assert len(part) == 2 * 4 * 8
    np.testing.assert_array_equal(part.filter(like="atom_"), wanted.filter(like="atom_"))
    np.testing.assert_allclose(part.fidelity, wanted.fidelity, atol=1e-12)  # other blocks of a matrix product


def test_batches_and_threads_change_nothing(model, dictionary, monkeypatch):
    import sys

    whole = hs.scan(model, dictionary, sides=("write", "read"), threads=2).table()
    for size in (7, 100, 129):
        monkeypatch.setattr(sys.modules["headscan.explanations.scan"], "_BATCH", size)
        parts = hs.scan(model, dictionary, sides=("write", "read"), threads=1).table()
        np.testing.assert_array_equal(parts.filter(like="atom_"), whole.filter(like="atom_"))
        np.testing.assert_allclose(parts.filter(like="coefficient_"), whole.filter(like="coefficient_"), atol=1e-12)


def test_unfolded_weights_are_scanned_as_they_are(model, dictionary):
    folded = hs.scan(model, dictionary, layers=0)
    raw = hs.scan(model, dictionary, layers=0, fold=False)
    assert not raw.info.folded
    left, right = hs.vo_factors(model, layers=0, fold=False)
    expected = np.linalg.svd(left[0, 0] @ right[0, 0], compute_uv=False)[:8]
    found = raw.table().query("head == 0 and pole == '+'").sigma
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert not np.allclose(found, folded.table().query("head == 0 and pole == '+'").sigma)


def test_a_pruned_head_is_explained_by_finite_numbers(dictionary):
    module = build_module()
    module.visual.transformer.resblocks[0].attn.out_proj.weight.data[:, 8:16] = 0.0
    table = hs.scan(hs.load_model(module), dictionary, layers=0).table()
    assert (table[table["head"] == 1].sigma == 0.0).all()
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layers": 3}, "no layer 3"),
        ({"sides": "both"}, "sides are 'write' and 'read', not 'both'"),
        ({"sides": ()}, "sides are"),
        ({"poles": "plus"}, "poles must be"),
        ({"poles": None}, "poles must be"),
        ({"k": 0}, "k must be at least 1, not 0"),
        ({"k": 2.0}, "k must be a whole number, not 2.0"),
        ({"k": True}, "k must be a whole number, not True"),
        ({"k": 31}, "k must be from 1 to the number of atoms, 30, not 31"),
        ({"coherence": -0.1}, "coherence must be"),
        ({"coherence": float("nan")}, "coherence must be"),
        ({"coherence": True}, "coherence must be a finite number of at least 0, not True"),
        ({"coherence": None}, "coherence must be a finite number of at least 0, not None"),
        ({"coherence": "abc"}, "coherence must be a finite number of at least 0, not 'abc'"),
        ({"sides": None}, "sides are 'write' and 'read', not None"),
        ({"sides": 3}, "sides are 'write' and 'read', not 3"),
        ({"significance": -1}, "significance must be at least 0, not -1"),
        ({"significance": 0.5}, "significance must be a whole number, not 0.5"),
        ({"threads": -1}, "threads must be"),
        ({"threads": "x"}, "threads must be a whole number, not 'x'"),
        ({"threads": 1025}, "threads must be at most 1024, not 1025"),
    ],
)
def test_options_refused(model, dictionary, options, says):
    with pytest.raises(hs.HeadscanError, match=says):
        hs.scan(model, dictionary, **options)


def test_what_is_not_a_loaded_model_is_refused(model, dictionary):
    with pytest.raises(hs.HeadscanError, match=r"model must be one from load_model, not open_clip\.model\.CLIP"):
        hs.scan(model.module, dictionary)
    with pytest.raises(hs.HeadscanError, match="dictionary must be one from load_dictionary, not str"):
        hs.scan(model, "demo")  # type: ignore[arg-type]


def test_the_threads_asked_for_do_all_the_work(model, dictionary, monkeypatch):
    import sys

    asked = []
    real = hs.svd_factored
    module = sys.modules["headscan.heads.parts"]

    def svd_factored(*arrays, threads, device):
        asked.append(threads)
        return real(*arrays)

    monkeypatch.setattr(module, "svd_factored", svd_factored)
    hs.scan(model, dictionary, layers=[0, 1], threads=2, significance=0)
    assert asked == [2, 2]


def test_a_dictionary_of_another_model_is_refused(dictionary):
    other = build_module()
    other.ln_final.bias.data[0] += 0.1
    with pytest.raises(hs.HeadscanError, match="was encoded by another text tower"):
        hs.scan(hs.load_model(other), dictionary)


def test_directions_of_any_origin_can_be_explained(model, dictionary):
    vectors = np.random.default_rng(0).standard_normal((5, 32))
    found = hs.explain_directions(vectors, dictionary, joint=hs.joint_map(model), k=4)
    images = hs.joint_map(model).to_joint(vectors)
    indices, coefficients = comp_reference(images, dictionary.atoms, 4, 0.3)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.coefficients, coefficients, atol=1e-10)
    assert ((found.fidelity >= -1) & (found.fidelity <= 1)).all()


@pytest.mark.parametrize("k", [1, 4, 9])
@pytest.mark.parametrize("method", CODES)
def test_every_pursuit_is_judged_by_the_published_fidelity(model, dictionary, method, k, tmp_path):
    scan = hs.scan(
        model, dictionary, layers=[0, 2], sides=("write", "read"), k=k, method=method, penalty=0.2, significance=0
    )
    table = scan.table()
    rows, *_ = reference_scan(model, dictionary, layers=[0, 2], k=1, coherence=0.0)
    vectors = np.array([row[-1] for row in rows])
    atoms = np.append(dictionary.atoms.astype(float), np.zeros((1, 24)), axis=0)  # -1: no atom
    indices = table[[f"atom_{place}" for place in range(k)]].to_numpy()
    coefficients = table[[f"coefficient_{place}" for place in range(k)]].to_numpy()
    rebuilt = np.einsum("nk,nke->ne", coefficients, atoms[indices])
    weights = {name: value.detach().double().numpy() for name, value in model.module.visual.state_dict().items()}
    some = np.linalg.norm(rebuilt, axis=1) > 0  # a lasso code may be empty
    expected = reference_fidelity(vectors[some], rebuilt[some], weights, model.image_mean)
    np.testing.assert_allclose(table.fidelity[some], expected, atol=1e-6)
    assert some.all() or method == "lasso"
    words = table[[f"concept_{place}" for place in range(k)]].to_numpy()
    np.testing.assert_array_equal(words, np.array([*dictionary.texts, ""], dtype=object)[indices])
    assert (coefficients < 0).any() == (method == "omp") == table.concepts.str.contains("-").any()
    assert hs.load_scan(scan.save(tmp_path)).info == scan.info
    assert (scan.info.method, scan.info.fidelity_version) == (method, 2)


def test_pursuits_differ_as_they_should(model, dictionary):
    vectors = np.random.default_rng(0).standard_normal((5, 32))
    joint = hs.joint_map(model)
    by = {name: hs.explain_directions(vectors, dictionary, joint=joint, method=name) for name in ("nnomp", "top_k")}
    without = hs.explain_directions(vectors, dictionary, joint=joint, coherence=0.0)
    np.testing.assert_array_equal(by["nnomp"].indices, without.indices)
    scores = joint.to_joint(vectors) @ dictionary.atoms.T
    np.testing.assert_array_equal(by["top_k"].indices, np.argsort(-scores, axis=1)[:, :5])
    with pytest.raises(hs.HeadscanError, match=f"one of {', '.join(CODES)}, not 'nearest'"):
        hs.explain_directions(vectors, dictionary, joint=joint, method="nearest")
    with pytest.raises(hs.HeadscanError, match="method must be one of comp"):
        hs.scan(model, dictionary, method="best")


def test_the_demo_models_fidelity_is_the_published_codes():
    model = hs.load_model("demo")
    scan = hs.scan(model, hs.load_dictionary("demo", model=model), layers="4-7", poles="+", significance=0)
    assert scan.explanations["fidelity"].mean() == pytest.approx(0.45227, abs=5e-5)  # what SITH's own code gives


def test_a_direction_made_of_concepts_is_rebuilt(model, dictionary):
    joint = hs.joint_map(model)
    image = dictionary.atoms[[3]].astype(float)
    found = hs.explain_directions(joint.to_width(image), dictionary, joint=joint)
    assert found.joint_fidelity[0] > 0.5  # the final layer norm bends it, but it is there
