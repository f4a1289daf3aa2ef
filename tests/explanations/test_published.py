"""Files of the published code: written as its scripts write them, read where ours are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import headscan as hs
from conftest import CONCEPTS
from headscan.edit import Direction

NAME = "layer-{:02d}_{}_foldln_words_comp-0.3_sparsity-3"


@pytest.fixture
def published(model, tmp_path):
    """Write a dictionary with a blank and a repeated line, and a decomposition of two layers, both sides."""
    lines = [*CONCEPTS[:4], "", CONCEPTS[0], *CONCEPTS[4:]]
    texts = [line or "nothing" for line in lines]
    place = tmp_path / "models" / "x" / "y" / "dictionaries"
    place.mkdir(parents=True)
    (tmp_path / "dictionaries").mkdir()
    (tmp_path / "dictionaries" / "words.txt").write_text("\n".join(lines))
    torch.save(torch.from_numpy(model.encode_text(texts)), place / "words.pt")
    return place / "words.pt"


def row_of(row):
    return row if row < 4 else row + 2


def test_a_decomposition_is_a_scan(model, published, tmp_path, caplog):
    with caplog.at_level("WARNING", logger="headscan"):
        dictionary, rows = hs.load_published_dictionary(published, model=model)
    assert "1 blank and 1 repeated lines are dropped" in caplog.text
    own = hs.load_dictionary(CONCEPTS, model=model, cache=False)
    assert dictionary.texts == own.texts and list(rows[:8]) == [0, 1, 2, 3, -1, 0, 4, 5]
    np.testing.assert_allclose(dictionary.atoms, own.atoms, atol=1e-5)
    expected = hs.scan(model, own, layers=[0, 2], sides=("write", "read"), poles="+", k=3, significance=0).table()
    folder = tmp_path / "decompositions"
    folder.mkdir()
    for layer in (0, 2):
        for name, side in (("right", "write"), ("left", "read")):
            part = expected[(expected.layer == layer) & (expected.side == side)]
            scores = part[[f"coefficient_{i}" for i in range(3)]].to_numpy()
            indices = np.vectorize(row_of)(part[[f"atom_{i}" for i in range(3)]].to_numpy())
            saved = {"scores": torch.tensor(scores), "indices": torch.tensor(indices)}
            if name == "left":  # the published code has both shapes
                saved = {key: value.reshape(4, 8, 3) for key, value in saved.items()}
            torch.save(saved, folder / f"{NAME.format(layer, name)}.pt")
    scan = hs.load_published_scan(folder, model=model, dictionary=dictionary, rows=rows)
    order = ["layer", "head", "index", "side"]
    found, expected = (one.sort_values(order, ignore_index=True) for one in (scan.table(), expected))
    same = [*order, "pole", "concepts", "atom_0", "atom_2"]
    assert found[same].equals(expected[same])
    np.testing.assert_allclose(found["sigma"], expected["sigma"])
    np.testing.assert_allclose(found["fidelity"], expected["fidelity"], atol=1e-5)
    np.testing.assert_allclose(found["joint_fidelity"], expected["joint_fidelity"], atol=1e-5)
    assert not found["certified"].any() and (scan.info.method, scan.info.k, scan.info.folded) == ("comp", 3, True)
    scan.save(tmp_path / "scan")
    assert hs.load_scan(tmp_path / "scan").table().equals(scan.table())


def test_decisions_are_judgements(model, dictionary, tmp_path):
    scan = hs.scan(model, dictionary, layers=[1, 2], poles="+", k=3, significance=0)
    lines = [str(1 + number % 5) for number in range(4 * 8)]
    lines[3] = "Error"
    (tmp_path / f"{NAME.format(2, 'right')}.txt").write_text("\n".join(lines))
    edit = hs.Edit.from_judgements(scan, tmp_path, {4: 0.0})
    expected = {Direction("vo", 2, n // 8, n % 8) for n, line in enumerate(lines) if line == "4"}
    assert set(edit.multipliers) == expected and Direction("vo", 2, 0, 3) not in edit.multipliers
    path = tmp_path / f"{NAME.format(2, 'right')}.txt"
    for text, says in (
        ("\n".join(lines[:-1]), "4 heads cannot share equally"),
        ("x\n" * 32, "1 to 5 or Error, not 'x'"),
    ):
        path.write_text(text)
        with pytest.raises(hs.HeadscanError, match=says):
            hs.Edit.from_judgements(scan, path, {4: 0.0})


def test_an_image_mean_is_read(model, bundle, tmp_path):
    mean = torch.arange(24) / 200
    torch.save(mean, tmp_path / "image_mean.pt")
    loaded = hs.load_model(f"local-dir:{bundle}", image_mean=tmp_path / "image_mean.pt")
    assert loaded.image_mean is not None
    np.testing.assert_allclose(loaded.image_mean, mean.numpy())
    torch.save({"mean": mean}, tmp_path / "image_mean.pt")
    with pytest.raises(hs.HeadscanError, match="must be one floating-point tensor of 1 axes, it holds dict"):
        hs.load_model(f"local-dir:{bundle}", image_mean=tmp_path / "image_mean.pt")


class Bomb:
    def __reduce__(self):
        return print, ("BOOM",)


def test_what_does_not_fit_is_refused(model, dictionary, published, tmp_path, capsys):
    other = published.with_name("other.pt")
    torch.save(torch.randn(len(CONCEPTS) + 2, 24), other)
    words = tmp_path / "dictionaries" / "words.txt"
    with pytest.raises(hs.HeadscanError, match="was not encoded by"):
        hs.load_published_dictionary(other, texts=words, model=model)
    with pytest.raises(hs.HeadscanError, match=r"there is no list other\.txt of the texts"):
        hs.load_published_dictionary(other, model=model)
    words.write_text("one\ntwo")
    with pytest.raises(hs.HeadscanError, match="they do not belong together"):
        hs.load_published_dictionary(published, model=model)
    torch.save({"scores": Bomb()}, other)
    with pytest.raises(hs.HeadscanError, match="cannot read the published dictionary"):
        hs.load_published_dictionary(other, model=model)
    assert "BOOM" not in capsys.readouterr().out
    good = {"scores": torch.rand(32, 3), "indices": torch.zeros(32, 3, dtype=torch.long)}
    path = tmp_path / f"{NAME.format(2, 'right')}.pt"
    for change, says in (
        ({"indices": good["indices"] + len(dictionary)}, "indices must be from 0 to"),
        ({"indices": good["scores"]}, "indices whole numbers"),
        ({"scores": good["scores"][:31], "indices": good["indices"][:31]}, "holds 31 codes"),
        ({"scores": torch.full((32, 3), torch.nan)}, "scores finite"),
        ({"indices": None}, "must hold the tensors scores and indices"),
    ):
        torch.save(good | change, path)
        with pytest.raises(hs.HeadscanError, match=says):
            hs.load_published_scan(path, model=model, dictionary=dictionary)
    torch.save(good, path)
    torch.save(good, tmp_path / "layer-02_left_nofoldln_words_comp-0.3_sparsity-3.pt")
    with pytest.raises(hs.HeadscanError, match="have different settings"):
        hs.load_published_scan(tmp_path, model=model, dictionary=dictionary)
    with pytest.raises(hs.HeadscanError, match="must say layer, side, folding"):
        hs.load_published_scan(tmp_path / "codes.pt", model=model, dictionary=dictionary)
