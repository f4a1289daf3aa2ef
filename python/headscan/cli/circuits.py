"""``headscan circuits``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from headscan.cli.options import Commands, add_command, add_shared, at_least, path
from headscan.cli.output import Output, Table, records

if TYPE_CHECKING:
    import pandas as pd

_EXAMPLES = """\
examples:
  headscan circuits demo --out circuits
  headscan circuits demo --out circuits --about lakeside --to L7 --paths 5
  headscan circuits ViT-L-14 --pretrained laion2b_s32b_b82k --parts vo,qk --out circuits --from L20.H3
"""
_COLUMNS = ("from", "to", "side", "channel", "pole", "strength", "q_value", "written", "read")


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    circuits = add_command(
        commands,
        "circuits",
        _run,
        summary="find which head writes what which later head reads",
        description="Find the channels between heads and MLPs of different layers, from the weights, in words.",
        examples=_EXAMPLES,
    )
    add_shared(circuits, "model")
    tables = "pairs.parquet, channels.parquet and manifest.json"
    circuits.add_argument("--out", metavar="DIR", type=path, required=True, help=f"folder for {tables}")
    add_shared(circuits, "force")
    sources = circuits.add_argument_group("model and dictionary")
    add_shared(sources, "pretrained", "image_mean", "device", "dictionary", "column", "strict", "batch_size")
    choices = circuits.add_argument_group("what to look at, and how")
    add_shared(choices, "layers", "k", "coherence", "threads")
    add = choices.add_argument
    add("--tower", choices=("image", "text"), default="image", help="which tower (default: image)")
    parts = "vo: heads' outputs and values, qk: queries and keys, mlp: MLPs; by comma (default: vo,qk,mlp)"
    add("--parts", metavar="PARTS", type=lambda text: tuple(text.split(",")), default=("vo", "qk", "mlp"), help=parts)
    add("--level", metavar="Q", type=at_least(float, 0, 1), default=0.05, help="q-value of chance (default: 0.05)")
    most = "pairs above chance whose channels are explained (default: 1000)"
    add("--pairs", metavar="N", type=at_least(int, 1), default=1000, help=most)
    add("--channels", metavar="N", type=at_least(int, 1), default=3, help="channels of each (default: 3)")
    compared = "random directions to compare fidelities with; 0: none (default: 1000)"
    add("--significance", metavar="N", type=at_least(int, 0), default=1000, help=compared)
    _add_filters(circuits)


def _add_filters(circuits: argparse.ArgumentParser) -> None:
    shown = circuits.add_argument_group("which channels to show")
    add_shared(shown, "show", show="channels to show, each pole counted (default: 10)")
    add = shown.add_argument
    add("--about", metavar="TEXT", help="only those about a text")
    add("--from", metavar="PLACE", dest="writer", help="only those written by a layer (L3), a head (L3.H2) or L3.MLP")
    add("--to", metavar="PLACE", dest="reader", help="only those read there")
    add("--side", choices=("value", "query", "key", "input"), help="only what is read so")
    add("--paths", metavar="N", type=at_least(int, 0), default=0, help="the strongest paths to there, too")
    add("--depth", metavar="N", type=at_least(int, 1), default=3, help="channels in a path, at most (default: 3)")


def _run(options: argparse.Namespace) -> Output:
    from headscan.dictionaries.by_name import Sources
    from headscan.wiring.by_name import circuits_by_name

    sources = Sources(
        model=options.model, pretrained=options.pretrained, image_mean=options.image_mean, device=options.device,
        dictionary=options.dictionary, batch_size=options.batch_size, threads=options.threads,
        column=options.column, strict=options.strict,
    )  # fmt: skip
    run = circuits_by_name(
        sources, options.out, tower=options.tower, parts=options.parts, layers=options.layers, level=options.level,
        pairs=options.pairs, channels=options.channels, k=options.k, coherence=options.coherence,
        significance=options.significance, about=options.about, writer=options.writer, reader=options.reader,
        side=options.side, paths=options.paths, depth=options.depth, force=options.force,
    )  # fmt: skip
    made, pairs = run.circuits, run.circuits.pairs
    above = int((pairs["q_value"] < made.info.level).sum())
    rows = _named(run.channels.head(options.show))
    summary = f"{above:,} of {len(pairs):,} pairs are above chance (q < {made.info.level:g}); the strongest "
    facts = {"folder": str(run.folder), "pairs": len(pairs), "above_chance": above, "channels": len(made)}
    tables = [Table("channels", "The strongest channels", rows, _COLUMNS)] if rows else []
    paths = records(run.paths)
    if paths:
        tables.append(Table("paths", "The strongest paths", paths, ("strength", "path", "pole", "concepts")))
    saved = f"{summary}{made.info.explained:,} are explained: {len(made):,} rows saved in {run.folder}"
    return Output([*tables, saved], facts)


def _named(channels: pd.DataFrame) -> list[dict[str, Any]]:
    """Return channels with the names of their nodes, and their words under short names."""
    from headscan.heads.parts import node_name

    return [
        {
            "from": node_name(row["writer_layer"], row["writer_head"]),
            "to": node_name(row["reader_layer"], row["reader_head"]),
            **row,
            "written": row["written_concepts"],
            "read": row["read_concepts"],
        }
        for row in records(channels)
    ]
