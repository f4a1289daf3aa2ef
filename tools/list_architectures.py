"""Write docs/what-headscan-reads.md's table: what of each architecture of open_clip's list headscan reads.

Every architecture is built in its real sizes on torch's meta device, without weights, and read; the configurations
that its text towers have on the hub are in tests/architectures.py. Nothing goes online.

    python tools/list_architectures.py          # print the table
    python tools/list_architectures.py --write  # put it into the page
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import open_clip
import torch
import transformers
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from architectures import hf_text_config
from headscan.errors import HeadscanError
from headscan.models.towers import Tower, read_tower
from headscan.models.towers.families import FAMILIES

PAGE = Path(__file__).parents[1] / "docs" / "what-headscan-reads.md"
_BEGIN, _END = "<!-- tools/list_architectures.py writes from here -->", "<!-- to here -->"


def built() -> Iterator[tuple[str, Any]]:
    """Yield each architecture's name and its model, in its real sizes and without weights."""
    with ExitStack() as stack:
        config = mock.patch.object(
            transformers.AutoConfig, "from_pretrained", lambda name, **options: hf_text_config(name, small=False)
        )
        stay = mock.patch.object(nn.Module, "to", lambda self, *arguments, **options: self)
        for context in (config, stay, torch.device("meta")):
            stack.enter_context(context)
        shipped = {path.stem for path in (Path(open_clip.__file__).parent / "model_configs").glob("*.json")}
        for name in open_clip.list_models():  # less those that were registered besides
            if name not in shipped:
                continue
            yield name, open_clip.create_model(name, pretrained_text=False)


def row(name: str, module: Any) -> tuple[str, str, str, str, str]:
    """Return an architecture's row: name, vision heads, parts, edits, text heads; a refusal where there are none."""
    try:
        image = read_tower(module)
    except HeadscanError as error:
        return name, f"refused: {str(error).split(': ', 1)[1]}", "", "", _text(module)
    block = image.blocks[0]
    parts = ["vo"]
    parts += ["qk"] if block.qk_refusal is None else []
    parts += ["mlp"] if block.mlp_output is not None else []
    edits = "yes" if block.value_norm is None and block.output_norm is None else "no"
    return name, _sizes(image), ", ".join(parts), edits, _text(module)


def _text(module: Any) -> str:
    try:
        return _sizes(read_tower(module, kind="text"))
    except HeadscanError:
        return "dictionaries only"


def _sizes(tower: Tower) -> str:
    return f"{tower.layers} x {tower.heads}, width {tower.width}, rank {tower.rank}"


def table() -> str:
    """Return the table in Markdown, and how many of its rows are read."""
    rows = [row(name, module) for name, module in built()]
    read = sum(not vision.startswith("refused") for _, vision, *_ in rows)
    lines = [
        f"{read} of the {len(rows)} architectures that open_clip {open_clip.__version__} lists.",
        "",
        "| architecture | vision layers x heads | parts | edits | text layers x heads |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]
    return "\n".join(lines)


def families() -> str:
    """Return the families as a table in Markdown."""
    lines = ["| family | for example | towers | vision parts | into the joint space | note |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for family in FAMILIES:
        note = "; ".join(filter(None, (family.note, "" if family.edits else "no edits")))
        cells = (family.name, ", ".join(family.examples), ", ".join(family.towers), ", ".join(family.parts))
        lines.append(f"| {' | '.join((*cells, family.joint, note))} |")
    return "\n".join(lines)


def page_parts() -> list[str]:
    """Return what the page has between its marks: the families, and the table."""
    text = PAGE.read_text(encoding="utf-8")
    return [part.split(_END)[0].strip() for part in text.split(_BEGIN)[1:]]


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put them into {PAGE.name}")
    made = [families(), table()]
    if not parser.parse_args().write:
        sys.stdout.write("\n\n".join(made) + "\n")
        return
    head, *rest = PAGE.read_text(encoding="utf-8").split(_BEGIN)
    for part, old in zip(made, rest, strict=True):
        head += f"{_BEGIN}\n\n{part}\n\n{_END}{old.split(_END)[1]}"
    PAGE.write_text(head, encoding="utf-8")


if __name__ == "__main__":
    main()
