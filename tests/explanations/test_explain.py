"""Explain anything: images, texts and vectors against the plain steps, and the command."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import headscan as hs
from headscan.cli import main
from reference import comp_reference


@pytest.fixture(scope="module")
def saved_model(bundle):
    """The tiny model from its folder: it says how it preprocesses."""
    return hs.load_model(f"local-dir:{bundle}")


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def assert_explained(said, embedding, mean, dictionary):
    centred = unit(unit(embedding) - mean)[None]
    indices, coefficients = comp_reference(centred, dictionary.atoms, 5, 0.3)
    np.testing.assert_array_equal(said.atoms, indices[0])
    np.testing.assert_allclose(said.coefficients, coefficients[0], atol=1e-6)
    assert said.concepts == tuple(dictionary.texts[atom] for atom in indices[0])
    rebuilt = coefficients[0] @ dictionary.atoms[indices[0]]
    assert said.fidelity == pytest.approx(float(unit(rebuilt) @ centred[0]), abs=1e-6)
    assert said.certified


def test_an_image_goes_through_the_models_own_preprocessing(saved_model, dictionary, photo):
    said = hs.explain(saved_model, dictionary, image=photo)
    with Image.open(photo) as opened:
        square = opened.resize((24, 16), Image.Resampling.BICUBIC).crop((4, 0, 20, 16))  # shortest side, centre
    tensor = torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255
    tensor = (tensor - 0.5) / 0.5  # as the bundle's configuration says
    with torch.inference_mode():
        embedding = saved_model.module.encode_image(tensor[None])[0].double().numpy()
    np.testing.assert_allclose(said.embedding, embedding, atol=1e-4)
    assert_explained(said, embedding, saved_model.image_mean, dictionary)
    assert said.contributions is not None
    np.testing.assert_allclose(said.contributions.total(), said.embedding, atol=1e-5)
    for same in (Image.open(photo), hs.preprocess(saved_model, photo), str(photo)):
        np.testing.assert_array_equal(hs.explain(saved_model, dictionary, image=same).atoms, said.atoms)


def test_texts_and_vectors(saved_model, dictionary, tmp_path):
    embedding = saved_model.encode_text(["a frozen pond"])[0].astype(float)
    said = hs.explain(saved_model, dictionary, text="a frozen pond")
    assert_explained(said, embedding, dictionary.mean, dictionary)
    assert said.contributions is None
    np.save(tmp_path / "vector.npy", embedding)
    for vector in (embedding, tmp_path / "vector.npy"):
        assert_explained(
            hs.explain(saved_model, dictionary, vector=vector), embedding, saved_model.image_mean, dictionary
        )
    table = said.table()
    assert list(table.columns) == ["concept", "atom", "coefficient"]
    assert table.coefficient.is_monotonic_decreasing and (table.coefficient > 0).all()


def test_the_words_of_what_wrote_an_image_are_those_of_the_scan(saved_model, dictionary, photo):
    said = hs.explain(saved_model, dictionary, image=photo)
    assert said.contributions is not None
    rows = hs.written_in_words(said.contributions, saved_model, dictionary, count=12)
    parts = said.contributions.table().query("part == 'direction'").head(12)
    np.testing.assert_array_equal(rows.share, parts.share)
    scan = hs.scan(saved_model, dictionary, significance=0).table()
    places = ["layer", "head", "index", "pole"]
    expected = rows[places].merge(scan[scan.side == "write"], on=places)
    assert list(rows.concepts) == list(expected.concepts)
    np.testing.assert_allclose(rows.fidelity, expected.fidelity, atol=1e-9)
    assert len(hs.written_in_words(said.contributions, saved_model, dictionary, count=0)) == 0


def test_bad_input(model, saved_model, dictionary, tmp_path, photo):
    def refused(says, source=saved_model, **given):
        with pytest.raises(hs.HeadscanError, match=says):
            hs.explain(source, dictionary, **given)

    refused("takes one of image, text and vector, got none")
    refused("text to explain is empty", text=" ")
    refused("takes one of image, text and vector, got image and text", image=photo, text="x")
    refused("there is no picture", image=tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    refused("cannot read the picture", image=tmp_path / "text.png")
    refused("an image is a path, a PIL image or a tensor, not int", image=3)
    refused("there is no vector file", vector=tmp_path / "none.npy")
    refused("cannot read the vector", vector=tmp_path / "text.png")
    refused("24 joint dimensions, not shape", vector=np.zeros(3))
    refused("finite and not all zero", vector=np.zeros(24))
    refused("finite and not all zero", vector=np.full(24, np.nan))
    refused("k must be at least 1", text="x", k=0)
    refused("is another model's", source=hs.load_model("demo"), text="x")


# ---- the command


@pytest.fixture
def run(bundle, tmp_path, capsys):
    """Run ``headscan explain`` on the tiny model with a dictionary of six."""
    concepts = tmp_path / "concepts.txt"
    concepts.write_text("\n".join(["dog", "[b]cat[/b]", "horse", "fish", "bird", "tree"]))

    def run(*arguments):
        status = main.main(["explain", f"local-dir:{bundle}", "--dictionary", str(concepts), *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


def test_the_command_explains_an_image_and_who_wrote_it(run, photo):
    status, out, err = run("--image", photo, "--show", 3)
    assert (status, err) == (0, "")
    assert "The image in" in out
    assert "Shares of the embedding by what wrote it: " in out
    assert "The directions that wrote most of it" in out
    assert "[b]cat[/b]" in out


def test_the_command_explains_texts_and_vectors(run, tmp_path):
    status, out, _ = run("--text", "a red boat", "-k", 3)
    assert status == 0
    assert "The text in" in out
    assert "Shares" not in out
    np.save(tmp_path / "v.npy", np.ones(24))
    assert "The vector in" in run("--vector", tmp_path / "v.npy")[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "one of the arguments --image --text --vector is required"),
        (["--text", "a", "--image", "b"], "not allowed with argument"),
        (["--image", "none.png"], "there is no picture none.png"),
        (["--text", "a", "-k", "0"], "at least 1"),
    ],
)
def test_the_command_refuses_in_one_line(run, arguments, says):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
