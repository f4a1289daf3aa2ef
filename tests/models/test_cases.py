"""Files and pictures that people reported trouble with: each case's script is run, and what it gives is right.

The scripts and notes are in ../shared/cases. A case either works, with the value of an independent reference, or ends
in one line that names cause and remedy.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file

import headscan as hs
from warm import write_commands

CASES = Path(__file__).parents[3] / "shared" / "cases"
FOLDERS = sorted(path.parent for path in CASES.glob("*/run.sh"))
pytestmark = [
    pytest.mark.skipif(not FOLDERS, reason="there are no shared cases beside the repository (../shared/cases)"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the cases' scripts are for Linux"),
]
NEEDS = {"01": "peft", "02": "bitsandbytes", "07": "clip.model"}  # beside transformers
S = "ViT-S-32-alt"

SAVED = (0, r"\d+ explanations \(\d+ certified exact\) saved in \S+")
TABLE = (0, r"[└─┴┘]+")
QUANTISED = (
    r"headscan: error: the weights in \S+ are quantised \({}.*: only plain floating-point weights are read; load "
)
ALONE = r"headscan: error: \S+ holds a {}, {}.*; load the two-tower model that it came from, or put "
PICKLED = r"headscan: error: \S+ holds a open_clip\.model\.CLIP, which only unpickling .*, save its tensors alone: "
NAMED = (2, r"headscan: error: named holds adapters by name: give named/birds")
COLUMNS = r"headscan: error: {} has the columns concept, count: name one of them \(column, --column\)"
PAGE = (0, r"256 explanations in r\.html .*")

# Of every command: its exit status, and its last line.
EXPECTED = {
    "01": [TABLE, TABLE, NAMED, NAMED],
    "02": [
        SAVED,
        (2, QUANTISED.format("quantization_config: bitsandbytes")),
        (2, QUANTISED.format(r"\S+ is int8")),
        (2, QUANTISED.format(r"\S+ is float8_e5m2")),
        (2, QUANTISED.format(r"\S+ is float8_e4m3fn")),
        (2, r"headscan: error: there is no scan folder o-bnb8"),
    ],
    "03": [(0, SAVED[1])],
    "04": [SAVED, (0, r"edited model saved in \S+/edited\.safetensors"), (0, r"edited model saved in \S+/edited")],
    "05": [
        *[SAVED] * 6,
        (2, r"headscan: error: \S+ holds a open_clip\.model\.CLIP, which only unpickling .*save its"),
    ],
    "06": [SAVED] * 6,
    "07": [SAVED] * 2,
    "08": [SAVED] * 2,
    "09": [(2, r"headscan: error: \S+/clip holds no tokenizer .*: save the base model's beside it, .*")],
    "10": [
        (2, ALONE.format("CLIPForImageClassification", "a classifier on a vision tower: it has no text tower")),
        (2, ALONE.format("CLIPVisionModelWithProjection", "a vision tower alone: it has no text tower")),
        (2, ALONE.format("CLIPTextModelWithProjection", "a text tower alone: it has no vision tower")),
    ],
    "11": [
        (0, r"5 concepts of imagenet-simple-labels\.json in .*"),
        (2, r"headscan: error: concepts\.jsonl, line 1 is an object with the keys text, n: name one of them .*"),
    ],
    "12": [
        (2, COLUMNS.format(r"german_excel\.csv")),
        (0, r"4 concepts of no_header\.csv in .*"),
        (
            2,
            r"headscan: error: unquoted_commas\.csv, line 2 has 3 fields, more than the 1 of line 1: put .*",
        ),
        (2, COLUMNS.format(r"UPPER\.CSV")),
    ],
    "13": [
        (0, r"4 concepts of yfcc\.parquet in \S+; dropped 1 blank, .*"),
        (0, r"3 concepts of laion_long\.parquet in .*"),
        (0, r"3 concepts of laion_nulls\.parquet in \S+; dropped 1 blank, .*"),
        (0, r"3 concepts of coco\.parquet in .*"),
        (0, r"3 concepts of parts in .*"),
        (0, r"3 concepts of tab\.csv in .*"),
    ],
    "14": [TABLE, TABLE],
    "15": [SAVED, PAGE, SAVED, PAGE, PAGE],
    "17": [],
}


@dataclass(frozen=True)
class Ran:
    """What a case did: the folder it worked in, what it printed, and of each command the status and the last line."""

    folder: Path
    output: str
    commands: list[tuple[int, str]]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The command and a Python that start at once."""
    folder = tmp_path_factory.mktemp("warm")
    offline = ("HF_HUB_OFFLINE", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in offline}
    environment |= {
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    script = Path(__file__).parents[1] / "warm.py"
    arguments = [sys.executable, str(script), str(folder / "socket")]
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        yield write_commands(folder, str(folder / "socket"))
        server.kill()


@pytest.fixture
def ran(request: pytest.FixtureRequest, commands: tuple[Path, Path], tmp_path: Path) -> Ran:
    """A case that has been run."""
    number = request.param
    if number in NEEDS:
        pytest.importorskip(NEEDS[number], reason=f"{NEEDS[number]}, which the case needs, is not installed")
    (case,) = (folder for folder in FOLDERS if folder.name.startswith(number))
    headscan, python = commands
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HEADSCAN": str(headscan), "PYTHON": str(python), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        ["bash", str(case / "run.sh")], env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    (words,) = tmp_path.glob("tmp.*/words.txt")
    ends = re.findall(r"\$ headscan \w+ .*\n(?:.*\n)*?(.*)\nexit (\d+)$", done.stdout, flags=re.MULTILINE)
    return Ran(words.parent, done.stdout, [(int(status), line) for line, status in ends])


def test_every_case_is_known() -> None:
    assert [folder.name[:2] for folder in FOLDERS] == list(EXPECTED)


@pytest.mark.filterwarnings("ignore")  # of the libraries that references are made with
@pytest.mark.parametrize("ran", EXPECTED, indirect=True)
def test_a_case_works_or_is_refused_in_one_line(ran: Ran, request: pytest.FixtureRequest) -> None:
    number = request.node.callspec.params["ran"]
    assert [status for status, _ in ran.commands] == [status for status, _ in EXPECTED[number]], ran.output
    for (_, line), (_, expected) in zip(ran.commands, EXPECTED[number], strict=True):
        assert re.match(expected, line), line
    assert "Traceback" not in ran.output and "this is a bug" not in ran.output
    if number in VALUES:
        VALUES[number](ran)


def fresh() -> torch.nn.Module:
    """The model whose weights the cases save in all their ways."""
    torch.manual_seed(0)
    model: torch.nn.Module = open_clip.create_model(S)
    return model.eval()


def adapters(ran: Ran) -> None:
    from peft import PeftModel
    from transformers import CLIPModel, SiglipModel

    (difference,) = re.findall(r"largest difference from the merged model's changes (\S+)", ran.output)
    assert float(difference) < 1e-5
    for name, kind, adapter in (("clip", CLIPModel, "lora"), ("clip", CLIPModel, "named/birds")):
        base = hs.load_model(f"local-dir:{ran.folder / name}")
        merged = PeftModel.from_pretrained(kind.from_pretrained(ran.folder / name), ran.folder / adapter)
        expected = hs.load_model(merged.merge_and_unload(), tokenizer=len)
        adapted = hs.load_adapter(ran.folder / adapter).apply(base)
        np.testing.assert_allclose(hs.vo_factors(adapted).left, hs.vo_factors(expected).left, atol=1e-5)
        np.testing.assert_allclose(hs.vo_factors(adapted).right, hs.vo_factors(expected).right, atol=1e-5)
    siglip = SiglipModel.from_pretrained(ran.folder / "siglip")
    pairs = load_file(ran.folder / "siglip-lora" / "adapter_model.safetensors")
    name = "vision_model.encoder.layers.1.self_attn.v_proj"
    a, b = (pairs[f"base_model.model.{name}.lora_{part}.weight"].double() for part in "AB")
    weight = siglip.get_parameter(f"{name}.weight").double()
    value = weight + 8 / 4 * b @ a  # peft's default alpha, over the rank
    adapted = hs.load_adapter(ran.folder / "siglip-lora").apply(hs.load_model(f"local-dir:{ran.folder / 'siglip'}"))
    np.testing.assert_allclose(adapted.tower.read_attention(1).value, value.detach().T, atol=1e-12)


def plain_scan(ran: Ran) -> None:
    from transformers import CLIPModel

    expected = hs.load_model(CLIPModel.from_pretrained(ran.folder / "clip"), tokenizer=len)
    assert hs.load_scan(ran.folder / "o-clip").info.weights_hash == expected.weights_hash
    assert not list(ran.folder.glob("o-[bcf][nt8p]*/manifest.json"))


def context(ran: Ran) -> None:
    assert "trained model's: [1. 1. 1.]" in ran.output


def image_size(ran: Ran) -> None:
    original = torch.load(ran.folder / "epoch_1.pt", weights_only=True)["state_dict"]
    edited = load_file(ran.folder / "edited.safetensors")
    assert {name: tensor.shape for name, tensor in edited.items()} == {
        name: tensor.shape for name, tensor in original.items()
    }
    differing = {name for name, tensor in original.items() if not torch.equal(tensor, edited[name])}
    attention = "visual.transformer.resblocks.11.attn.out_proj"
    assert differing == {f"{attention}.weight"}  # a new model's value biases are zero
    folder = hs.load_model(f"local-dir:{ran.folder / 'edited'}")
    assert folder.weights_hash == hs.load_model(S, pretrained=ran.folder / "edited.safetensors").weights_hash
    assert folder.module.visual.image_size in (288, (288, 288))


def saved_ways(ran: Ran) -> None:
    expected = hs.load_model(fresh()).weights_hash
    assert hs.load_scan(ran.folder / "out").info.weights_hash == expected
    for path in ran.folder.glob("*.pt"):
        if path.name != "whole_module.pt":
            assert hs.load_model(S, pretrained=path).weights_hash == expected, path.name


def openai(ran: Ran) -> None:
    state = torch.load(ran.folder / "state_dict.pt", weights_only=True)
    ids = open_clip.SimpleTokenizer(context_length=77)(["a boat on the sea", "snow"])
    # The archive says that it computes with QuickGELU. The state dict alone does not: the architecture's name does.
    for name, quick in (("ViT-S-32.pt", True), ("state_dict.pt", False)):
        module = open_clip.create_model(S, force_quick_gelu=quick).eval()
        module.load_state_dict(state)
        with torch.no_grad():
            expected = module.encode_text(ids).numpy()
        model = hs.load_model(S, pretrained=ran.folder / name)
        np.testing.assert_allclose(model.encode_text(["a boat on the sea", "snow"]), expected, atol=1e-5)
    assert "clip.load() model in memory: HeadscanError the vision tower is a clip.model" in ran.output


def hub(ran: Ran) -> None:
    first, second = (hs.load_scan(ran.folder / name) for name in ("o1", "o2"))
    assert first.info.weights_hash == second.info.weights_hash
    assert first.table().equals(second.table())
    assert "pytorch_model.bin" in ran.output.split("asked of the hub:")[1]


def no_tokenizer(ran: Ran) -> None:
    assert ran.output.strip().endswith("encode_text, three different texts:")  # and then none


def json_lists(ran: Ran) -> None:
    assert texts(ran, "imagenet-simple-labels.json") == [
        "tench", "goldfish", "great white shark", "crane (bird)", "potter's wheel",
    ]  # fmt: skip
    assert not (ran.folder / "d-concepts.jsonl").exists()


def csv_lists(ran: Ran) -> None:
    assert texts(ran, "no_header.csv") == ["dog", "cat", "snow", "forest"]
    assert [path.name for path in ran.folder.glob("d-*")] == ["d-no_header.csv"]


def captions(ran: Ran) -> None:
    plain = ["a dog", "snow in the forest", "cat"]
    assert texts(ran, "yfcc.parquet") == [*plain, "boat on the sea"]
    assert texts(ran, "laion_long.parquet") == texts(ran, "laion_nulls.parquet") == texts(ran, "parts") == plain
    assert texts(ran, "coco.parquet") == ["a dog", "two dogs", "a cat"]
    assert texts(ran, "tab") == ["dog", "cat", "sn ow"]


def texts(ran: Ran, name: str) -> list[str]:
    return (ran.folder / f"d-{name}" / "texts.txt").read_text(encoding="utf-8").splitlines()


def pictures(ran: Ran) -> None:
    cosines = dict(re.findall(r"^(\S+) +cosine with g8\.png (\S+)", ran.output, flags=re.MULTILINE))
    same = {name for name, cosine in cosines.items() if float(cosine) > 0.999}
    assert same == {"g8.png", "g16.png", "g16.tif", "float.tif", "cmyk.jpg"}
    first, second = re.findall(r"The image in 5 concepts[^$]*", ran.output)
    assert first.split() == second.split()


def appledouble(ran: Ran) -> None:
    from headscan.models.image_mean import image_mean_of_folder

    (ran.folder / "photos" / "9.jpg").unlink()
    demo = hs.load_model("demo")
    mean = image_mean_of_folder(demo, ran.folder / "photos")
    assert hs.load_scan(ran.folder / "o2").info.image_mean_hash == hs.scan(
        hs.load_model("demo", image_mean=mean), hs.load_dictionary(["dog", "cat"], model=demo, cache=False),
        layers=[0], k=1, significance=0,
    ).info.image_mean_hash  # fmt: skip


def in_memory(ran: Ran) -> None:
    lines = dict(line.split(" ", 1) for line in ran.output.splitlines())
    refused = "-> HeadscanError the model in memory is"
    assert lines["quantize_dynamic(CLIPModel)"].startswith(f"{refused} quantised (text_model.encoder.layers.0.")
    assert lines["quantize_dynamic(open_clip)"].startswith(f"{refused} quantised (visual.transformer.resblocks.0.")
    assert lines["torch.jit.script(open_clip)"].startswith(f"{refused} a TorchScript module")
    assert lines["torch.compile(open_clip)"] == lines["bfloat16"] == "loads"


VALUES = {
    "01": adapters, "02": plain_scan, "03": context, "04": image_size, "05": saved_ways, "06": saved_ways,
    "07": openai, "08": hub, "09": no_tokenizer, "11": json_lists, "12": csv_lists, "13": captions, "14": pictures,
    "15": appledouble, "17": in_memory,
}  # fmt: skip
