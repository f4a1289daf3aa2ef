"""The examples of README and docs, run as written, and the README's table against what the command gives."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import headscan as hs
from headscan import figures
from headscan.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES = {"README": README, "CONTRIBUTING": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), **DOCS}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADSCAN_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if "```python" in text])
def test_the_python_examples_run(page):
    for example in re.findall(r"```python\n(.*?)```", PAGES[page], flags=re.DOTALL):
        exec(compile(example, page, "exec"), {})


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_to_is_there(page):
    folder = ROOT / "docs" if page in DOCS else ROOT
    generated = {
        "reference.md",
        "demo-model.md",
        "contributing.md",
        "changes.md",
        "licences.md",
    }
    for target in re.findall(r"\]\(([^)#\s]+)", PAGES[page]):
        results = ROOT / "benchmarks" if target.startswith("results/") else folder
        assert target.startswith("http") or target in generated or (results / target).exists(), target


def test_the_edit_commands_run(capsys):
    (block,) = re.findall(r"```console\n(headscan scan demo --layers 4-7.*?)```", DOCS["edit"], flags=re.DOTALL)
    for line in block.splitlines():
        assert main.main(shlex.split(line)[1:]) == 0
    assert hs.load_model("local-dir:demo-without-scenery").weights_hash != hs.load_model("demo").weights_hash


def test_the_first_command_prints_the_table(capsys):
    (command,) = re.findall(r"^\$ headscan (.*)$", README, flags=re.MULTILINE)
    assert main.main(shlex.split(command)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for line in re.findall(r"^(?:model|dictionary)  .*$", README, flags=re.MULTILINE):
        assert " ".join(line.split()) in printed
    rows = re.findall(
        r"^\| (\d+) \| (\d+) \| (\w+) \| ([+-]) \| ([\d.]+) \| (-?[\d.]+) \| (.*) \|$", README, re.MULTILINE
    )
    assert len(rows) == 10
    table = hs.load_scan("out").table().sort_values(["sigma", "pole"], ascending=[False, True], kind="stable")
    for row, (_, found) in zip(rows, table.head(10).iterrows(), strict=True):
        picks = sorted(((found[f"coefficient_{i}"], found[f"concept_{i}"]) for i in range(5)), reverse=True)
        concepts = ", ".join(f"{concept} {weight:.2f}" for weight, concept in picks if weight >= 0.005)
        shown = (found["head"], found["index"], found["side"], found["pole"])
        assert row == (*map(str, shown), f"{found['sigma']:.3f}", f"{found['fidelity']:.3f}", concepts)


def test_the_report_s_examples_run(tmp_path, monkeypatch):
    opened: list[Any] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    (tmp_path / "photos").mkdir()
    for shade in (10, 200):
        Image.new("RGB", (60, 50), (shade, 90, 90)).save(tmp_path / "photos" / f"{shade}.png")
    main.main(shlex.split("scan demo --layers 7 --out out"))
    section = DOCS["report"]
    commands = re.findall(r"^headscan (.*?)(?: +#.*)?$", section, flags=re.MULTILINE)
    assert [main.main(shlex.split(command)) for command in commands] == [0, 0]
    assert opened == [(tmp_path / "out" / "report.html").as_uri()]
    scan = hs.load_scan("out")
    shown = [name for name in re.findall(r"`(scan\.[^`]+)`", section) if "path" not in name]
    assert len(shown) == 2
    for expression in shown:
        assert "<table>" in eval(expression, {"scan": scan})._repr_html_()
    for drawing in ("spectra(scan)", 'head_map(scan, by="strength")'):
        assert f"`{drawing}`" in section
        eval(f"figures.{drawing}", {"figures": figures, "scan": scan}).savefig("figure.png")


def test_every_documented_column_exists_and_the_other_way_round(capsys):
    main.main(shlex.split("scan demo --layers 7 --out out"))
    columns = {re.sub(r"_\d+$", "_i", name) for name in hs.load_scan("out").table().columns}
    rows = [line for line in DOCS["table"].splitlines() if line.startswith("|")]
    documented = set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in rows)))
    assert documented == columns


def test_every_command_parses():
    blocks = re.findall(r"```console\n(.*?)```", "\n".join(PAGES.values()), flags=re.DOTALL)
    commands = [
        line for block in blocks for line in re.findall(r"^(?:\$ )?headscan (.*)$", block, flags=re.MULTILINE)
    ]
    assert {command.split()[0] for command in commands} >= {"scan", "find", "explain", "compare"}
    for command in commands:
        main.parser().parse_args(shlex.split(command, comments=True))
