"""Saved edits: the input's own format, loaded by libraries that know nothing of headscan; and the command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.edit.test_edit import embed, make_edit, random_edit

import headscan as hs
from conftest import TINY, build_module, edit_command, write_bundle

PLAIN = """
import sys, numpy, torch, open_clip
module = open_clip.create_model(sys.argv[1], **eval(sys.argv[4])).eval()
with torch.no_grad():
    numpy.save(sys.argv[3], module.encode_image(torch.from_numpy(numpy.load(sys.argv[2]))).numpy())
assert not any(name.split(".")[0] == "headscan" for name in sys.modules)
"""


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))


def embed_elsewhere(name, images, tmp_path, **options):
    """Embed with plain open_clip in a process that never imports headscan."""
    np.save(tmp_path / "in.npy", images.numpy())
    script = tmp_path / "plain.py"
    script.write_text(PLAIN)
    command = [sys.executable, script, name, tmp_path / "in.npy", tmp_path / "out.npy", repr(options)]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, timeout=300)
    return np.load(tmp_path / "out.npy")


def described(path):
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in load_file(path).items()}


def test_a_saved_folder_loads_in_plain_open_clip(bundle, images, tmp_path):
    model = hs.load_model(f"local-dir:{bundle}")
    edited = random_edit(model).apply(model)
    saved = edited.save(tmp_path / "edited")
    assert {path.name for path in bundle.iterdir()} | {"README.md", "edit.json"} == {p.name for p in saved.iterdir()}
    weights = "open_clip_model.safetensors"
    assert described(saved / weights) == described(bundle / weights)
    found = embed_elsewhere(f"local-dir:{saved}", images, tmp_path)
    # The weights are the same bits (below); another process may add in another order, float32 of order 1.
    np.testing.assert_allclose(found, embed(edited.module, images), atol=1e-5)
    assert np.abs(found - embed(model.module, images)).max() > 1e-3
    assert hs.load_edit(saved / "edit.json").multipliers == edited.edit.multipliers
    assert hs.load_model(f"local-dir:{saved}").weights_hash == edited.weights_hash


def test_a_checkpoint_of_other_sizes_is_saved_with_them(tmp_path, tiny_architecture):
    big = build_module(image_size=32, text={"context_length": 24})
    torch.save({"epoch": 1, "state_dict": big.state_dict()}, tmp_path / "epoch_1.pt")
    model = hs.load_model(tiny_architecture, pretrained=tmp_path / "epoch_1.pt")
    edited = random_edit(model).apply(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in big.state_dict().items()}
    single = edited.save(tmp_path / "edited.safetensors")
    assert {name: shape for name, (shape, _) in described(single).items()} == shapes
    config = json.loads((edited.save(tmp_path / "edited") / "open_clip_config.json").read_text())["model_cfg"]
    assert (config["vision_cfg"]["image_size"], config["text_cfg"]["context_length"]) == (32, 24)
    for again in (
        hs.load_model(tiny_architecture, pretrained=single),
        hs.load_model(f"local-dir:{tmp_path / 'edited'}"),
    ):
        assert again.weights_hash == edited.weights_hash


def test_half_precision_files_stay_half(images, tmp_path):
    folder = write_bundle(tmp_path / "half", build_module().half())
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\nCredits.\n")
    model = hs.load_model(f"local-dir:{folder}")
    edited = make_edit(model, dict.fromkeys(list(random_edit(model, layers=(1,)).multipliers), 0.0)).apply(model)
    saved = edited.save(tmp_path / "edited")
    before, after = (load_file(f / "open_clip_model.safetensors") for f in (folder, saved))
    assert {t.dtype for t in after.values() if t.is_floating_point()} == {torch.float16}
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"visual.transformer.resblocks.1.attn.out_proj.{part}" for part in ("weight", "bias")}
    again = embed(hs.load_model(f"local-dir:{saved}").module, images)
    np.testing.assert_allclose(again, embed(edited.module, images), atol=2e-3)  # rounded to float16: 5e-4 relative
    card = (saved / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n---\n# ") and card.endswith("Credits.\n")
    assert re.search(r"^\| 1 \| \d \| \d+ \| 0 to 0 \|$", card, flags=re.MULTILINE)
    assert model.weights_hash in card


def test_a_state_dict_alone(bundle, images, tmp_path, tiny_architecture):
    model = hs.load_model(tiny_architecture, pretrained=str(bundle / "open_clip_model.safetensors"))
    edited = random_edit(model).apply(model)
    saved = edited.save(tmp_path / "weights.safetensors")
    assert described(saved) == described(bundle / "open_clip_model.safetensors")
    again = hs.load_model(tiny_architecture, pretrained=str(saved))
    np.testing.assert_array_equal(embed(again.module, images), embed(edited.module, images))
    assert (tmp_path / "weights.md").is_file() and (tmp_path / "weights.edit.json").is_file()
    folder = edited.save(tmp_path / "folder")  # of an architecture: open_clip's own kind of folder
    assert hs.load_model(f"local-dir:{folder}").weights_hash == edited.weights_hash
    found = embed_elsewhere(f"local-dir:{folder}", images, tmp_path)
    np.testing.assert_allclose(found, embed(edited.module, images), atol=1e-5)


def test_the_checkpoint_that_was_edited_is_not_written_over(bundle, tmp_path, tiny_architecture):
    file = tmp_path / "mine.safetensors"
    shutil.copyfile(bundle / "open_clip_model.safetensors", file)
    before, model = file.read_bytes(), hs.load_model(tiny_architecture, pretrained=str(file))
    with pytest.raises(hs.HeadscanError, match="over the original"):
        random_edit(model).apply(model).save(file)
    assert file.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_bare_file_keeps_its_dtypes(bundle, tmp_path, tiny_architecture, suffix):
    halves = {name: tensor.half() for name, tensor in load_file(bundle / "open_clip_model.safetensors").items()}
    (save_file if suffix == ".safetensors" else torch.save)(halves, tmp_path / f"half{suffix}")
    model = hs.load_model(tiny_architecture, pretrained=str(tmp_path / f"half{suffix}"))
    edited = random_edit(model).apply(model)
    file, folder = edited.save(tmp_path / "out.safetensors"), edited.save(tmp_path / "out")
    for saved in (file, folder / "open_clip_model.safetensors"):
        found = load_file(saved)
        assert {name: tensor.dtype for name, tensor in found.items()} == dict.fromkeys(halves, torch.float16)


def test_only_the_weights_that_were_loaded_are_in_the_copy(bundle, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "both")
    save_file({"other": torch.ones(2)}, folder / "model.safetensors")
    (folder / "pytorch_model.bin.index.json").write_text("{}")
    model = hs.load_model(f"local-dir:{folder}")
    saved = random_edit(model).apply(model).save(tmp_path / "edited")
    assert {path.name for path in bundle.iterdir()} | {"README.md", "edit.json"} == {p.name for p in saved.iterdir()}


def test_a_second_edit_in_place_is_recorded(bundle, tmp_path):
    model = hs.load_model(f"local-dir:{bundle}")
    first = random_edit(model, layers=(0,)).apply(model)
    second = random_edit(model, layers=(1,)).apply(first, in_place=True)
    assert first.edit.multipliers == second.edit.multipliers and first.kept == second.kept
    assert first.weights_hash == second.weights_hash
    saved = hs.load_edit(first.save(tmp_path / "edited") / "edit.json")
    assert {key.layer for key in saved.multipliers} == {0, 1}


def test_pickled_weights_become_safetensors_of_the_same_keys(bundle, images, tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text((bundle / "open_clip_config.json").read_text())
    torch.save(load_file(bundle / "open_clip_model.safetensors"), folder / "open_clip_pytorch_model.bin")
    model = hs.load_model(f"local-dir:{folder}")
    saved = random_edit(model).apply(model).save(tmp_path / "edited")
    assert described(saved / "open_clip_model.safetensors") == described(bundle / "open_clip_model.safetensors")
    assert not list(saved.glob("*.bin"))  # unedited weights must not lie beside the edited ones


def test_shards_stay_shards(bundle, images, tmp_path):
    from headscan.edit.save import _copy_folder

    whole = load_file(bundle / "open_clip_model.safetensors")
    names = sorted(whole)
    folder, target = tmp_path / "shards", tmp_path / "out"
    folder.mkdir(), target.mkdir()
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: whole[name] for name in part}, folder / f"model-{number}.safetensors", metadata={"a": "b"})
    (folder / "config.json").write_text("{}")
    changed = {name: tensor + 1 for name, tensor in whole.items()}
    shards = sorted(folder.glob("*.safetensors"))
    _copy_folder(folder, target, changed, shards)
    assert sorted(p.name for p in target.iterdir()) == ["config.json", "model-0.safetensors", "model-1.safetensors"]
    for number, part in enumerate((names[::2], names[1::2])):
        found = load_file(target / f"model-{number}.safetensors")
        assert sorted(found) == part and all(torch.equal(found[name], changed[name]) for name in part)
    with pytest.raises(hs.HeadscanError, match="no tensor zzz"):
        _copy_folder(folder, tmp_path / "out", {**changed, "zzz": torch.ones(1)}, shards)


def test_what_is_there_is_not_overwritten(bundle, tmp_path):
    model = hs.load_model(f"local-dir:{bundle}")
    edited = random_edit(model).apply(model)
    for path in (bundle, bundle / "open_clip_model.safetensors", bundle / "beside.safetensors"):
        with pytest.raises(hs.HeadscanError, match="over the original"):
            edited.save(path)
    (tmp_path / "mine.md").write_text("my notes")
    with pytest.raises(hs.HeadscanError, match=r"mine\.md exists"):
        edited.save(tmp_path / "mine.safetensors")
    assert (tmp_path / "mine.md").read_text() == "my notes"
    assert edited.save(edited.save(tmp_path / "again.safetensors")).is_file()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(hs.HeadscanError, match="is not of an edited model"):
        edited.save(tmp_path / "mine")
    assert edited.save(edited.save(tmp_path / "twice")).is_dir()
    with pytest.raises(hs.HeadscanError, match=r"ends in \.safetensors"):
        in_memory = hs.load_model(build_module())
        random_edit(in_memory).apply(in_memory).save(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


# ---- the command


@pytest.fixture
def scanned(bundle, tmp_path, capsys):
    return edit_command(bundle, tmp_path, capsys)


def test_the_command_edits_as_the_library_does(scanned, bundle, tmp_path):
    arguments = ["--suppress", "snow, sand", "--threshold", "0.2", "--layers", "1-2", "--strength", "0.5"]
    status, out, err = scanned(*arguments, "--dry-run", "--out", tmp_path / "edited")
    assert (status, err) == (0, "") and not (tmp_path / "edited").exists()
    assert "output_change" in out and "made by suppress" in out
    status, out, _ = scanned(*arguments, "--out", tmp_path / "edited", "--save-edit", tmp_path / "edit.json")
    assert status == 0 and f"edited model saved in {tmp_path / 'edited'}" in out
    model = hs.load_model(f"local-dir:{bundle}")
    scan = hs.load_scan(tmp_path / "scan")
    edit = hs.Edit.suppress(scan, model, like="snow, sand", threshold=0.2, layers=[1, 2], strength=0.5)
    assert edit.multipliers == hs.load_edit(tmp_path / "edit.json").multipliers
    again = hs.load_model(f"local-dir:{tmp_path / 'edited'}")
    assert again.weights_hash == edit.apply(model).weights_hash
    status, out, _ = scanned("--edit", tmp_path / "edit.json", "--out", tmp_path / "same.safetensors")
    assert status == 0 and (tmp_path / "same.safetensors").is_file()


def test_the_command_keeps_means(scanned, bundle, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    (tmp_path / "pictures").mkdir()
    paths = [tmp_path / "pictures" / f"{place}.png" for place in range(2)]
    for path, picture in zip(paths, pixels, strict=True):
        Image.fromarray(picture).save(path)
    make = ["--suppress", "snow", "--threshold", "0.2", "--graded", "--save-edit", tmp_path / "edit.json"]
    hashes = set()
    for given, pictures in (("estimate", "estimate"), (tmp_path / "pictures", paths)):
        status, _, err = scanned(*make, "--keep-mean", given, "--out", tmp_path / "edited")
        assert (status, err) == (0, "")
        edited = hs.load_edit(tmp_path / "edit.json").apply(hs.load_model(f"local-dir:{bundle}"), pictures=pictures)
        assert hs.load_model(f"local-dir:{tmp_path / 'edited'}").weights_hash == edited.weights_hash
        hashes.add(edited.weights_hash)
        said = "as estimated from the image mean" if given == "estimate" else "over 2 pictures"
        assert said in (tmp_path / "edited" / "README.md").read_text()
        shutil.rmtree(tmp_path / "edited")
    assert len(hashes) == 2
    status, _, err = scanned(*make, "--keep-mean", tmp_path / "none", "--out", tmp_path / "edited")
    assert status == 2 and "none" in err and not (tmp_path / "edited").exists()


def test_every_way_of_the_command(scanned, tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "scores.csv").write_text("layer,head,index,score\n0,1,2,5\n1,1,1,4\n")
    for arguments in (
        ["--amplify", "snow", "--threshold", "0.3"],
        ["--classes", tmp_path / "classes.txt"],
        ["--judgements", tmp_path / "scores.csv", "--score-map", "5=0,4=0.5"],
    ):
        status, out, err = scanned(*arguments, "--save-edit", tmp_path / "edit.json", "--force")
        assert (status, err) == (0, "") and "edit of local-dir:" in out
    rows = json.loads((tmp_path / "edit.json").read_text())["multipliers"]
    assert rows == [["vo", 0, 1, 2, 0.0], ["vo", 1, 1, 1, 0.5]]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--suppress", "snow"], "nothing to do"),
        (["--dry-run"], "one of the arguments --suppress"),
        (["--suppress", "snow", "--amplify", "sand", "--dry-run"], "not allowed with"),
        (["--judgements", "none.csv", "--dry-run"], "there is no file of judgements"),
        (["--edit", "none.json", "--dry-run"], "there is no edit"),
        (["--suppress", "snow", "--layers", "9", "--dry-run"], "there is no layer 9"),
        (["--suppress", "snow", "--out", __file__], "is not of an edited model"),
    ],
)
def test_bad_usage_is_one_line(scanned, arguments, says):
    status, out, err = scanned(*arguments)
    assert status == 2 and out == "" and re.fullmatch(r"headscan: error: [^\n]+\n", err) and says in err


def test_tiny_is_what_the_bundle_says():
    assert TINY["vision_cfg"]["image_size"] == 16  # the plain process is given pictures of this size
