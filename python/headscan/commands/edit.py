"""``headscan edit``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from headscan.commands._options import Commands, add_command, at_least, folder, layers

if TYPE_CHECKING:
    from headscan.edit import Edit
    from headscan.models import Model
    from headscan.results import Scan

_EXAMPLES = """\
examples:
  headscan edit demo --scan out --suppress "forest, meadow, sea, lake" --layers 4-7 --out demo-without-scenery
  headscan edit demo --scan out --suppress "forest, meadow, sea, lake" --layers 4-7 --dry-run
  headscan edit demo --scan out --amplify "bird, fish" --strength 1.5 --out demo-animals
  headscan edit demo --scan out --classes birds.txt --out demo-birds
  headscan edit demo --scan out --judgements scores.csv --score-map 5=0,4=0.5 --out demo-judged
  headscan edit local-dir:my-clip --edit edit.json --out edited.safetensors
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    edit = add_command(
        commands,
        "edit",
        _run,
        summary="suppress or amplify concepts in the weights",
        description="Scale singular directions of attention heads and save an ordinary checkpoint.",
        examples=_EXAMPLES,
    )
    edit.add_argument("model", metavar="MODEL", help="the model that was scanned, named as for headscan scan")
    edit.add_argument(
        "--pretrained", metavar="TAG", help="weights of an open_clip name: a tag, a checkpoint file, random"
    )
    edit.add_argument("--scan", metavar="DIR", type=folder, help="its saved scan; not needed with --edit")
    edit.add_argument("--out", metavar="PATH", type=folder, help="folder of the checkpoint, or FILE.safetensors")
    edit.add_argument("--dry-run", action="store_true", help="show what would change, by how much; write no model")
    edit.add_argument("--save-edit", metavar="FILE", type=Path, help="write the edit itself, as JSON")
    edit.add_argument("--show", metavar="N", type=at_least(int, 0), default=20, help="heads to print (default: 20)")
    _add_ways(edit)
    _add_choices(edit)


def _add_ways(edit: argparse.ArgumentParser) -> None:
    group = edit.add_argument_group("where the multipliers come from (one of these)")
    add = group.add_mutually_exclusive_group(required=True).add_argument
    add("--suppress", metavar="TEXTS", help="scale down what these texts name; several by comma")
    add("--amplify", metavar="TEXTS", help="scale up what these texts name")
    add("--classes", metavar="FILE", type=Path, help="scale by relevance for these class names, one a line")
    add("--judgements", metavar="FILE", type=Path, help="scores 1 to 5: .csv, .json or .jsonl")
    add("--edit", metavar="FILE", type=Path, help="an edit saved before")


def _add_choices(edit: argparse.ArgumentParser) -> None:
    add = edit.add_argument_group("how").add_argument
    add("--strength", metavar="X", type=float, help="the multiplier (default: 0 to suppress, 2 to amplify)")
    add("--threshold", metavar="X", type=float, help="least score (default: what 5 %% of random directions exceed)")
    add("--graded", action="store_true", help="scale by degree of match, from what half of random directions reach")
    add("--unlike", metavar="TEXTS", help="concepts nearer to these count against the match")
    add("--poles", choices=("any", "all", "mean"), default="any", help="which poles have to match (default: any)")
    add("--layers", metavar="all|20-23", type=layers, default="all", help="only these of the scan's (default: all)")
    add("--score-map", metavar="MAP", default="5=0", help="multipliers of scores (default: 5=0)")
    scaled = "keep the heads' constants out of the scaling (default), or scale them too"
    add("--compensate", action=argparse.BooleanOptionalAction, default=True, help=scaled)
    kept = "keep what the heads write on average over these pictures, or as estimated from the model's image mean"
    add("--keep-mean", metavar="DIR|estimate", type=folder, help=kept)


def _run(options: argparse.Namespace) -> None:
    from headscan.edit import load_edit
    from headscan.edit.mean import ESTIMATE
    from headscan.errors import HeadscanError
    from headscan.models import load_model
    from headscan.pictures import found_pictures
    from headscan.results import load_scan
    from headscan.terminal import plain

    if not options.dry_run and options.out is None and options.save_edit is None:
        raise HeadscanError(
            "nothing to do: give --out PATH, --save-edit FILE or --dry-run (see headscan edit --help)"
        )
    if options.scan is None and options.edit is None:
        raise HeadscanError("give the model's saved scan with --scan DIR (headscan scan makes one)")
    model = load_model(options.model, pretrained=options.pretrained)
    scan = None if options.scan is None else load_scan(options.scan)
    edit = _make(options, scan, model) if scan is not None and options.edit is None else load_edit(options.edit)
    sys.stdout.write(f"{plain(str(edit))}\n")
    changes = edit.changes(model)
    if options.show and len(changes):
        largest = changes.sort_values("output_change", ascending=False).head(options.show)
        sys.stdout.write(f"{largest.to_string(index=False, float_format=lambda value: f'{value:.3f}')}\n")
    if options.save_edit is not None:
        sys.stdout.write(f"edit saved in {plain(str(edit.save(options.save_edit)))}\n")
    if options.out is not None and not options.dry_run:
        kept = options.keep_mean
        pictures = kept if kept is None else ESTIMATE if str(kept) == ESTIMATE else found_pictures(kept)
        edited = edit.apply(model, in_place=True, compensate=options.compensate, pictures=pictures)
        saved = edited.save(options.out)
        sys.stdout.write(f"edited model saved in {plain(str(saved))}\n")


def _make(options: argparse.Namespace, scan: Scan, model: Model) -> Edit:
    from headscan.edit import Edit
    from headscan.heads import select_layers
    from headscan.vocabulary import read_vocabulary

    chosen = None if options.layers == "all" else select_layers(options.layers, count=model.layers)
    if options.classes is not None:
        return Edit.for_classes(
            scan, model, read_vocabulary(options.classes).texts, poles=options.poles, layers=chosen
        )
    if options.judgements is not None:
        mapping = _score_map(options.score_map)
        return Edit.from_judgements(scan, options.judgements, mapping, poles=options.poles, layers=chosen)
    suppressed = options.suppress is not None
    strength = options.strength if options.strength is not None else (0.0 if suppressed else 2.0)
    return (Edit.suppress if suppressed else Edit.amplify)(
        scan, model, like=options.suppress if suppressed else options.amplify, strength=strength,
        threshold=options.threshold, graded=options.graded, unlike=options.unlike, poles=options.poles,
        layers=chosen,
    )  # fmt: skip


def _score_map(text: str) -> dict[int, float]:
    from headscan.errors import HeadscanError

    try:
        return {int(score): float(value) for score, value in (pair.split("=") for pair in text.split(","))}
    except ValueError:
        raise HeadscanError(f"--score-map must be like 5=0,4=0.5, not {text!r}") from None
