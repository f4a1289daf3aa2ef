"""Compare: every figure against dense float64 NumPy; adapters against what peft merges."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from tests.models.test_adapters import pair, write_adapter  # type: ignore[attr-defined]

import headscan as hs
from conftest import CONCEPTS, build_module, write_bundle
from headscan.cli import main
from headscan.edit import Direction, EditInfo


def moved(module):
    """Move every weight of the vision tower."""
    generator = torch.Generator().manual_seed(11)
    for weight in module.visual.parameters():
        weight.data += 0.02 * torch.randn(weight.shape, generator=generator)
    return module


@pytest.fixture(scope="module")
def tuned():
    return hs.load_model(moved(build_module()))


@pytest.fixture(scope="module")
def found(model, tuned, dictionary):
    return hs.compare(model, tuned, dictionary=dictionary, count=3)


def products(model):
    left, right = hs.vo_factors(model)
    return left @ right


def test_every_heads_figures_are_those_of_the_dense_matrices(found, model, tuned):
    before, after = products(model), products(tuned)
    assert len(found.heads) == 12
    for row in found.heads.itertuples():
        one, other = before[row.layer, row.head], after[row.layer, row.head]
        (u, s, vh), (u2, s2, vh2) = np.linalg.svd(one), np.linalg.svd(other)
        u, s, vh, u2, s2, vh2 = u[:, :8], s[:8], vh[:8], u2[:, :8], s2[:8], vh2[:8]
        change = other - one
        size = np.linalg.norm(change)
        assert row.norm == pytest.approx(np.linalg.norm(one))
        assert row.change == pytest.approx(size)
        assert row.relative == pytest.approx(size / np.linalg.norm(one))
        assert row.sigma_moved == pytest.approx(np.linalg.norm(s2 - s) / np.linalg.norm(s))
        for a, b, mean, largest in (
            (vh.T, vh2.T, row.write_angle, row.write_angle_max),
            (u, u2, row.read_angle, row.read_angle_max),
        ):
            angles = np.degrees(np.arccos(np.linalg.svd(a.T @ b, compute_uv=False).clip(max=1)))
            assert mean == pytest.approx(angles.mean())
            assert largest == pytest.approx(angles.max())
        core = u.T @ change @ vh.T
        assert row.reweighted == pytest.approx((np.diag(core) ** 2).sum() / size**2)
        assert row.mixed == pytest.approx(((core**2).sum() - (np.diag(core) ** 2).sum()) / size**2)
        assert row.reweighted + row.mixed + row.outside == pytest.approx(1.0)
    assert found.heads.change.is_monotonic_decreasing


def test_the_changes_are_explained_singular_directions_of_the_difference(found, model, tuned, dictionary):
    differences = products(tuned) - products(model)
    assert len(found.changes) == 12 * 3 * 2
    assert found.changes.sigma.is_monotonic_decreasing
    for row in found.changes.head(20).itertuples():
        u, s, vh = np.linalg.svd(differences[row.layer, row.head])
        column = u[:, row.index]
        sign = np.sign(column[np.abs(column).argmax()]) * (1 if row.pole == "+" else -1)
        assert row.sigma == pytest.approx(s[row.index])
        assert row.share == pytest.approx(s[row.index] ** 2 / (s**2).sum())
        said = hs.explain_directions(sign * vh[[row.index]], dictionary, joint=hs.joint_map(model))
        assert row.fidelity == pytest.approx(said.fidelity[0], abs=1e-9)
        assert row.concepts.split(", ")[0] in [dictionary.texts[atom] for atom in said.indices[0]]


def test_reweighted_directions_are_those_that_a_planted_edit_moved(model, dictionary):
    """Scaling one singular value of one head by 1.7 is found as just that, and as nothing else."""
    module = build_module()
    factors = hs.vo_factors(model, layers=[1])
    _, sigma, vh = hs.svd_factored(factors.left[0], factors.right[0])
    v = torch.from_numpy(vh[2, 3])
    weight = module.visual.transformer.resblocks[1].attn.out_proj.weight.data  # (width, heads * rank)
    mine = torch.from_numpy(factors.right[0][2])  # centred, (rank, width)
    weight[:, 16:24] += 0.7 * torch.outer(v, mine @ v).to(weight.dtype)
    found = hs.compare(model, hs.load_model(module), dictionary=dictionary, count=2)
    top = found.heads.iloc[0]
    assert (top["layer"], top["head"]) == (1, 2)
    # float32 weights, so everything else stays at rounding
    assert top.reweighted == pytest.approx(1.0, abs=1e-5)
    assert top.write_angle_max < 1e-3
    assert found.heads.change[1:].max() < 1e-5
    best = found.reweighted.iloc[0]
    assert (best["layer"], best["head"], best["index"]) == (1, 2, 3)
    assert best.sigma == pytest.approx(sigma[2, 3])
    assert best.multiplier == pytest.approx(1.7, abs=1e-5)
    assert best.moved == pytest.approx(0.7 * sigma[2, 3], abs=1e-5)
    assert found.summary()["reweighted"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("noise", [0.0, 1e-9])  # of float64 rounding in the merging, say
def test_a_model_beside_itself_has_not_changed(model, dictionary, tmp_path, noise):
    module = build_module().double()
    module.visual.transformer.resblocks[1].attn.out_proj.weight.data *= 1 + noise
    same = hs.load_model(module)
    found = hs.compare(model, same, dictionary=dictionary)
    numbers = found.heads.drop(columns=["layer", "head", "norm", "reweighted", "mixed", "outside"])
    np.testing.assert_allclose(numbers, 0.0, atol=2e-6)  # angles in degrees, from float64 rounding
    assert not found.differs and len(found.changes) == len(found.reweighted) == 0
    page = (found.save(tmp_path / "out") / "page.html").read_text()
    assert "No difference" in page and "<table" not in page
    assert len(pd.read_parquet(tmp_path / "out" / "changes.parquet")) == 0
    assert "concepts" not in hs.compare(model, same).changes


def test_only_what_changed_is_explained(model, dictionary):
    module = build_module()
    module.visual.transformer.resblocks[1].attn.out_proj.weight.data[:, :8] *= 1.5  # layer 1, head 0
    found = hs.compare(model, hs.load_model(module), dictionary=dictionary)
    assert found.differs and len(found.changes) == len(found.reweighted) == 4 * 2
    for table in (found.changes, found.reweighted):
        assert set(zip(table.layer, table["head"], strict=True)) == {(1, 0)}
    np.testing.assert_allclose(found.reweighted.multiplier, 1.5)


def test_one_head_as_wide_as_the_model(dictionary):
    base = hs.load_model(build_module(head_width=32))
    other = hs.load_model(moved(build_module(head_width=32)))
    found = hs.compare(base, other, layers=0)
    change = (products(other) - products(base))[0, 0]
    assert found.heads.change[0] == pytest.approx(np.linalg.norm(change))
    assert found.changes.sigma[0] == pytest.approx(np.linalg.norm(change, 2))


def test_what_was_gone_is_multiplied_into_nothing():
    """A direction taken out and rounded to float16, then compared with the model that has it."""
    whole = hs.load_model(build_module())
    info = EditInfo("0", "now", whole.name, whole.weights_hash, True, ())
    module = hs.Edit({Direction("vo", 1, 2, 3): 0.0}, info).apply(whole).module.half().float()
    found = hs.compare(hs.load_model(module), whole, count=8)
    gone = found.reweighted[found.reweighted.sigma < 1e-3]
    assert set(zip(gone.layer, gone["head"], gone["index"], strict=True)) == {(1, 2, 7)}
    assert gone.multiplier.isna().all() and (gone.moved.abs() > 1e-3).all()
    rest = found.reweighted.drop(index=gone.index)
    np.testing.assert_allclose(rest.multiplier, 1 + rest.moved / rest.sigma)
    assert "nan" not in found._repr_html_().lower()


def test_a_manifest_says_what_was_compared_and_how_it_stands_beside_chance(model, tuned, dictionary, tmp_path):
    found = hs.compare(model, tuned, dictionary=dictionary, layers=[1, 2], count=2, k=3, significance=500)
    manifest = json.loads((found.save(tmp_path / "out") / "manifest.json").read_text())
    expected = {"base_hash": model.weights_hash, "tuned_hash": tuned.weights_hash, "layers": [1, 2], "count": 2}
    expected |= {"dictionary": "texts", "dictionary_hash": dictionary.hash, "concepts": 30, "k": 3, "coherence": 0.3}
    expected |= {"significance": 500, "template": "{}"}
    assert {name: manifest[name] for name in expected} == expected
    for name in ("changes", "reweighted"):
        table = getattr(found, name)
        assert (table.q_value >= table.p_value).all() and table.p_value.between(0, 1).all()
        assert manifest["chance"][name] == {"rows": 32, "better": int((table.q_value <= 0.05).sum())}
    plain = hs.compare(model, tuned, dictionary=dictionary, layers=[1, 2], count=2, k=3, significance=0)
    assert "q_value" not in plain.changes and plain.changes.equals(found.changes.drop(columns=["p_value", "q_value"]))
    with pytest.raises(hs.HeadscanError, match="holds a comparison of other parameters"):
        plain.save(tmp_path / "out")


def test_an_edited_demo_brings_its_own_dictionary_and_mean(tmp_path, capsys):
    demo = hs.load_model("demo")
    made = ["scan", "demo", "--layers", "7", "--significance", "0", "--quiet", "--out", str(tmp_path / "scan")]
    assert main.main(made) == 0
    edit = ["edit", "demo", "--scan", str(tmp_path / "scan"), "--direction", "7.2.9", "--out", str(tmp_path / "mine")]
    assert main.main([*edit, "--quiet"]) == 0
    line = ["compare", f"local-dir:{tmp_path / 'mine'}", "demo", "--layers", "7", "--json", "--significance", "200"]
    assert main.main([*line, "--out", str(tmp_path / "out")]) == 0
    rows = json.loads(capsys.readouterr().out)["tables"]["reweighted"]
    assert rows[0]["multiplier"] is None and abs(rows[0]["moved"]) > 0.1
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    own = hs.load_dictionary("demo", model=demo)
    assert (manifest["dictionary"], manifest["dictionary_hash"]) == ("dictionary.txt", own.hash)
    again = hs.load_model(f"local-dir:{tmp_path / 'mine'}")
    np.testing.assert_array_equal(again.image_mean, demo.image_mean)


# ---- adapters


def lora(folder, *, rank=3, **config):
    """Train nothing, save something: a peft adapter on all attention projections, and the model with it merged."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    options = {"target_modules": r"visual\.transformer\.resblocks\.\d+\.(attn|mlp\.c_fc)", "lora_alpha": 4, **config}
    torch.manual_seed(0)
    wrapped = peft.get_peft_model(build_module(), peft.LoraConfig(r=rank, init_lora_weights=False, **options))
    wrapped.save_pretrained(folder)
    return hs.load_model(wrapped.merge_and_unload().eval())


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"target_modules": r"visual.*\.1\.attn", "rank": 12},
        {"alpha_pattern": {r"visual.transformer.resblocks.1.attn": 16}},
    ],
)
def test_an_adapter_compares_as_its_merged_model_does(model, dictionary, tmp_path, config):
    merged = lora(tmp_path, **config)
    adapter = hs.load_adapter(tmp_path)
    found, expected = (hs.compare(model, other, dictionary=dictionary, count=2) for other in (adapter, merged))
    places = ["layer", "head"]
    one, other = (each.heads.sort_values(places, ignore_index=True) for each in (found, expected))
    touched = one.change > 1e-6
    assert touched.sum() in (4, 12)
    # The merged weights are rounded to float32.
    np.testing.assert_allclose(
        one[["norm", "change", "sigma_moved"]], other[["norm", "change", "sigma_moved"]], atol=1e-5
    )
    shares = ["reweighted", "mixed", "outside"]
    np.testing.assert_allclose(one.loc[touched, shares], other.loc[touched, shares], atol=1e-5)
    angles = ["write_angle", "write_angle_max", "read_angle", "read_angle_max"]
    np.testing.assert_allclose(np.radians(one[angles]), np.radians(other[angles]), atol=1e-5)
    for name in ("changes", "reweighted"):
        a, b = (getattr(each, name).head(8) for each in (found, expected))
        pd.testing.assert_frame_equal(a, b, rtol=1e-4, atol=1e-5)


def test_what_an_adapter_changes_elsewhere_is_given(model, tmp_path):
    lora(tmp_path)
    unused = hs.compare(model, hs.load_adapter(tmp_path), layers=[0]).unused
    assert unused == tuple(f"visual.transformer.resblocks.{layer}.mlp.c_fc.weight" for layer in range(3))


# ---- results


def test_bad_input(model, tuned, dictionary):
    with pytest.raises(hs.HeadscanError, match="only models of one architecture compare"):
        hs.compare(model, hs.load_model(build_module(layers=2)))
    with pytest.raises(hs.HeadscanError, match="model must be one from load_model"):
        hs.compare(model, "demo")  # type: ignore[arg-type]
    with pytest.raises(hs.HeadscanError, match="count must be at least 1"):
        hs.compare(model, tuned, count=0)
    with pytest.raises(hs.HeadscanError, match="is another model's"):
        hs.compare(hs.load_model("demo"), hs.load_model("demo"), dictionary=dictionary)


def test_a_comparison_is_saved_with_a_page(found, tmp_path, model, tuned):
    folder = found.save(tmp_path / "out")
    assert sorted(path.name for path in folder.iterdir()) == [
        "changes.parquet",
        "heads.parquet",
        "manifest.json",
        "page.html",
        "reweighted.parquet",
    ]
    for name in ("heads", "changes", "reweighted"):
        pd.testing.assert_frame_equal(pd.read_parquet(folder / f"{name}.parquet"), getattr(found, name))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["summary"] == pytest.approx(found.summary())
    found.save(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text("{}")
    with pytest.raises(hs.HeadscanError, match="was not written as a headscan-comparison manifest"):
        found.save(tmp_path / "other")


def test_the_page_escapes_every_text(model, tuned):
    dictionary = hs.load_dictionary(["<script>alert(1)</script>", "a & b", *CONCEPTS[:6]], model=model, cache=False)
    page = hs.compare(model, tuned, dictionary=dictionary)._repr_html_()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_figure_maps_layers_and_heads(found):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    axes = found.figure().axes
    assert [each.get_title() for each in axes[:3]] == ["relative change", "write angle, degrees", "share reweighted"]
    drawn = axes[0].images[0].get_array()
    expected = found.heads.pivot(index="layer", columns="head", values="relative")
    np.testing.assert_array_equal(drawn, expected)


def test_the_command(bundle, tmp_path, capsys):
    other = write_bundle(tmp_path / "tuned", moved(build_module()))
    (tmp_path / "concepts.txt").write_text("\n".join(CONCEPTS))
    arguments = [
        "compare",
        f"local-dir:{bundle}",
        f"local-dir:{other}",
        "--dictionary",
        str(tmp_path / "concepts.txt"),
        "--out",
        str(tmp_path / "out"),
        "--show",
        "2",
        "--force",
    ]
    assert main.main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for title in ("The heads that changed most", "What the change writes", "Directions reweighted", "saved in"):
        assert title in out
    tensors = pair("visual.transformer.resblocks.0.attn", outputs=96) | pair(
        "visual.transformer.resblocks.0.mlp.c_fc", outputs=128
    )
    arguments[2] = str(write_adapter(tmp_path / "adapter", tensors))
    assert main.main(arguments) == 0
    assert "1 modules, visual.transformer.resblocks.0.mlp.c_fc.weight first" in capsys.readouterr().out
    arguments[2] = arguments[1]
    assert main.main(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("No difference") and "What the change writes" not in out and out.count("\n") == 2
    arguments[2] = "demo"
    assert main.main(arguments) == 2
    assert "only models of one architecture compare" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x.zzz", "x"])
def test_the_name_of_a_figure_is_checked_first(tmp_path, capsys, name):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert main.main(["compare", "no-model", "no-model", "--figure", str(tmp_path / name)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "the name of a figure ends in .png, .svg or .pdf" in err
