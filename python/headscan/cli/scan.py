"""``headscan scan``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from headscan.cli.options import Commands, add_command, add_shared, at_least, parts, path, sides
from headscan.cli.output import Output, Table, records
from headscan.common.terminal import plain

if TYPE_CHECKING:
    from rich.text import Text

    from headscan.dictionaries.load import Dictionary
    from headscan.explanations.by_name import ScanRun
    from headscan.explanations.result import Scan
    from headscan.models.model import Model

_EXAMPLES = """\
examples:
  headscan scan demo --out out
  headscan scan ViT-L-14 --pretrained laion2b_s32b_b82k --layers 20-23 --out out
  headscan scan demo --parts vo,qk,mlp --tower text --out out
  headscan scan local-dir:my-clip --dictionary concepts.txt --sides write,read -k 3 --out out
"""
_NO_MEAN = (
    "no image mean is known of this model, and words are the worse for it: without its own, 58 % of the demo's picks "
    "differ (benchmarks/results/image_mean.md); --image-mean folder:PICTURES measures one"
)
_HEADS_NAMED = 12
_LEAST_COEFFICIENT = 0.005  # what is not shown as 0.00


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    scan = add_command(
        commands,
        "scan",
        _run,
        summary="explain every head of a model",
        description="Explain the singular directions of every head of a CLIP model's tower, in words.",
        examples=_EXAMPLES,
    )
    add_shared(scan, "model")
    table = "explanations.parquet and manifest.json"
    scan.add_argument("--out", metavar="DIR", type=path, required=True, help=f"folder for {table}")
    add_shared(scan, "force", "show", show="directions to show (default: 10)")
    sources = scan.add_argument_group("model and dictionary")
    add_shared(sources, "pretrained", "image_mean", "device", "dictionary", "column", "strict", "batch_size")
    template = "text with {} for the concept, 'a photo of a {}' say (default: {})"
    sources.add_argument("--template", metavar="TEXT", help=template)
    _add_choices(scan)


def _add_choices(scan: argparse.ArgumentParser) -> None:
    from headscan.explanations.directions import CODES
    from headscan.explanations.null import RANDOM_DIRECTIONS

    choices = scan.add_argument_group("what to explain, and how")
    add_shared(choices, "layers", "k", "coherence", "threads")
    add = choices.add_argument
    add("--tower", choices=("image", "text"), default="image", help="which tower (default: image)")
    of_parts = "vo: value-output, qk: query-key, mlp: output matrix; one or more, by comma (default: vo)"
    add("--parts", metavar="PARTS", type=parts, default=("vo",), help=of_parts)
    of_sides = "of part vo: write, read or both, by comma (default: write)"
    add("--sides", metavar="SIDES", type=sides, default=("write",), help=of_sides)
    add("--poles", choices=("both", "+", "-"), default="both", help="which poles (default: both)")
    methods = "how concepts are picked: comp, nnomp (the paper's OMP), omp (unconstrained), mp, top_k, lasso"
    add("--method", choices=CODES, default="comp", metavar="NAME", help=f"{methods} (default: comp)")
    add("--no-fold", action="store_true", help="leave the layer norm out of the weights")
    compared = "random directions to compare each part and side with; 0: none (default: 10000)"
    add("--significance", metavar="N", type=at_least(int, 0), default=RANDOM_DIRECTIONS, help=compared)


def _run(options: argparse.Namespace) -> Output:
    from headscan.dictionaries.by_name import Sources
    from headscan.explanations.by_name import scan_by_name

    sources = Sources(
        model=options.model, pretrained=options.pretrained, image_mean=options.image_mean, device=options.device,
        dictionary=options.dictionary, template=options.template, batch_size=options.batch_size,
        column=options.column, strict=options.strict, threads=options.threads,
    )  # fmt: skip
    run = scan_by_name(
        sources, options.out, tower=options.tower, parts=options.parts, layers=options.layers, sides=options.sides,
        poles=options.poles, k=options.k, coherence=options.coherence, method=options.method,
        fold=not options.no_fold, significance=options.significance, force=options.force,
    )  # fmt: skip
    certified = int(run.scan.explanations["certified"].sum())
    saved = f"{len(run.scan):,} explanations ({certified:,} certified exact) saved in {run.folder}"
    verdict, verdict_facts = _verdict(run.scan)
    tables = [_strongest(run.scan, rows=options.show)] if options.show else []
    facts = {"folder": str(run.folder), "explanations": len(run.scan), "certified": certified, **verdict_facts}
    sizes = _sizes(run.model, run.dictionary, tower=options.tower)
    hints = _next_commands(run, options) if sys.stdout.isatty() else []
    return Output([*sizes, *tables, *verdict, *hints, saved], facts)


def _verdict(scan: Scan) -> tuple[list[str], dict[str, int]]:
    """Return in one line which heads say more than chance, and the numbers; nothing without significance."""
    from headscan.explanations.significance import LEVEL
    from headscan.heads.parts import NO_HEAD, node_name

    if not scan.info.significance:
        return [], {}
    heads = scan.heads()
    clear = heads[heads["q_value"] < LEVEL]
    names = [node_name(*row) for row in clear[["layer", "head"]].itertuples(index=False)]
    several = len(scan.info.parts) > 1
    shown = [f"{name} ({part})" if several else name for name, part in zip(names, clear["part"], strict=True)]
    listed = ": " + ", ".join(shown[:_HEADS_NAMED]) + (", ..." if len(shown) > _HEADS_NAMED else "") if shown else ""
    nodes = "heads and MLPs" if heads["head"].eq(NO_HEAD).any() else "heads"
    line = f"verdict     {len(clear)} of {len(heads)} {nodes} say more than chance (q < {LEVEL}){listed}"
    return [line], {"heads": len(heads), "heads_above_chance": len(clear)}


def _next_commands(run: ScanRun, options: argparse.Namespace) -> list[str]:
    """Return what to do with a scan next."""
    folder = shlex.quote(str(run.folder))
    rows = run.scan.explanations
    best = (rows.sort_values("q_value", kind="stable") if run.scan.info.significance else rows).iloc[0]
    concept = shlex.quote(str(best["concept_0"]))
    commands = [f"headscan report {folder} --open", f"headscan find {concept} {folder}"]
    if run.scan.info.tower == "image" and "vo" in run.scan.info.parts:
        given = {"--pretrained": options.pretrained, "--image-mean": options.image_mean}
        words = [options.model, *(word for pair in given.items() if pair[1] for word in pair)]
        model = shlex.join(map(str, words))
        commands.append(f"headscan edit {model} --scan {folder} --suppress {concept} --dry-run")
    return [f"{'next' if not number else '':<12}{command}" for number, command in enumerate(commands)]


def _sizes(model: Model, dictionary: Dictionary, *, tower: str = "image") -> tuple[str, ...]:
    """Return what is scanned: the model's sizes, what to know of its tower, the dictionary with what was dropped."""
    source = model.get_tower(tower)
    mean = "no image mean" if model.image_mean is None else "image mean subtracted"
    if tower == "text":
        mean = "text tower, dictionary's mean subtracted"
    shape = f"{source.layers} layers of {source.heads} heads, width {source.width}, rank {source.rank}"
    dropped = f"{dictionary.blank:,} blank, {dictionary.repeated:,} repeated"
    return (
        f"model       {model.name}: {shape}, joint space {source.joint_dim}, {mean}",
        *([f"note        {source.note}"] if source.note else []),
        *([f"note        {_NO_MEAN}"] if mean == "no image mean" else []),
        f"dictionary  {dictionary.source}: {len(dictionary):,} concepts; dropped {dropped}, "
        f"{dictionary.same_tokens:,} with the tokens of another",
    )


def _strongest(scan: Scan, *, rows: int) -> Table:
    """Return the explanations of the last scanned layer's strongest directions, by singular value.

    Parameters
    ----------
    scan : Scan
        The scan.
    rows : int
        Directions; a direction with two poles takes two lines.
    """
    layer, poles = max(scan.info.layers), len(scan.info.poles)
    chosen = records(scan.strongest(rows * poles, layers=[layer]))
    part = ("part",) if len(scan.info.parts) > 1 else ()
    columns = (*part, "head", "index", "side", "pole", "sigma", "fidelity", "concepts")
    text = [{**row, "concepts": _concepts(row, k=scan.info.k)} for row in chosen]
    title = f"Layer {layer}: the {len(chosen) // poles} strongest directions"
    return Table("strongest", title, chosen, columns, text)


def _concepts(row: Mapping[str, Any], *, k: int) -> Text:
    """Return a code for reading: concepts and coefficients, the largest first, unused ones left out."""
    from rich.text import Text

    code = [(row[f"coefficient_{rank}"], row[f"concept_{rank}"]) for rank in range(k)]
    text = Text()
    for coefficient, concept in sorted(code, key=lambda pair: -pair[0]):
        if coefficient >= _LEAST_COEFFICIENT:
            text.append(", " if text else "")
            text.append(plain(concept))
            text.append(f" {coefficient:.2f}", style="dim")
    return text
