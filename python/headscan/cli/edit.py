"""``headscan edit``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headscan.cli.options import Commands, add_command, at_least, folder, layers

if TYPE_CHECKING:
    from headscan.edit import Edit
    from headscan.explanations.result import Scan
    from headscan.models.model import Model

_EXAMPLES = """\
examples:
  headscan edit demo --scan out --suppress "forest, meadow, sea, lake" --layers 4-7 --out demo-without-scenery
  headscan edit demo --scan out --suppress "forest, meadow, sea, lake" --layers 4-7 --dry-run
  headscan edit demo --scan out --amplify "bird, fish" --strength 1.5 --out demo-animals
  headscan edit demo --scan out --classes birds.txt --out demo-birds
  headscan edit demo --scan out --judgements scores.csv --score-map 5=0,4=0.5 --out demo-judged
  headscan edit local-dir:my-clip --edit edit.json --out edited.safetensors
"""

_MATCH = ("suppress", "amplify")
_SCAN_WAYS = (*_MATCH, "classes", "judgements")
_GOES_WITH = {  # an option of how, and the ways it has a meaning for
    **dict.fromkeys(("strength", "threshold", "graded", "unlike"), _MATCH),
    **dict.fromkeys(("poles", "layers"), _SCAN_WAYS),
    "score_map": ("judgements",),
}


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
    graded = "scale by degree of match, from what half of random directions reach"
    add("--graded", action="store_true", default=None, help=graded)
    add("--unlike", metavar="TEXTS", help="concepts nearer to these count against the match")
    add("--poles", choices=("any", "all", "mean"), help="which poles have to match (default: any)")
    add("--layers", metavar="all|20-23", type=layers, help="only these of the scan's (default: all)")
    add("--score-map", metavar="MAP", help="multipliers of scores (default: 5=0)")
    scaled = "keep the heads' constants out of the scaling (default), or scale them too"
    add("--compensate", action=argparse.BooleanOptionalAction, default=True, help=scaled)
    kept = "keep what the heads write on average over these pictures, or as estimated from the model's image mean"
    add("--keep-mean", metavar="DIR|estimate", type=folder, help=kept)


def _run(options: argparse.Namespace) -> None:
    from headscan.common.terminal import plain
    from headscan.edit import load_edit
    from headscan.edit.mean import ESTIMATE
    from headscan.edit.save import check_target
    from headscan.errors import HeadscanError
    from headscan.explanations.result import load_scan
    from headscan.models.load import load_model
    from headscan.models.pictures import found_pictures

    if not options.dry_run and options.out is None and options.save_edit is None:
        raise HeadscanError(
            "nothing to do: give --out PATH, --save-edit FILE or --dry-run (see headscan edit --help)"
        )
    if options.scan is None and options.edit is None:
        raise HeadscanError("give the model's saved scan with --scan DIR (headscan scan makes one)")
    given = _given(options)
    pictures = kept = options.keep_mean
    if kept is not None:
        pictures = ESTIMATE if str(kept) == ESTIMATE else found_pictures(kept)
    model = load_model(options.model, pretrained=options.pretrained)
    if options.out is not None:
        check_target(model, options.out)
    if options.edit is not None:
        edit = load_edit(options.edit)
    else:
        edit = _make(options, load_scan(options.scan), model, given)
    if not len(edit) and options.out is not None and not options.dry_run:
        raise HeadscanError(f"there is nothing to save: {_why_empty(edit)}")
    sys.stdout.write(f"{plain(str(edit))}\n")
    if not len(edit):
        sys.stdout.write(f"Nothing would change: {_why_empty(edit)}\n")
    changes = edit.changes(model)
    if options.show and len(changes):
        largest = changes.sort_values("output_change", ascending=False).head(options.show)
        sys.stdout.write(f"{largest.to_string(index=False, float_format=lambda value: f'{value:.3f}')}\n")
    edited = None
    if options.out is not None and not options.dry_run:
        edited = edit.apply(model, in_place=True, compensate=options.compensate, pictures=pictures)
    if options.save_edit is not None:
        sys.stdout.write(f"edit saved in {plain(str(edit.save(options.save_edit)))}\n")
    if edited is not None:
        sys.stdout.write(f"edited model saved in {plain(str(edited.save(options.out)))}\n")


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of how that were given, after checking that they go with the chosen way."""
    from headscan.errors import HeadscanError

    way = next(name for name in (*_SCAN_WAYS, "edit") if getattr(options, name) is not None)
    given = {name: getattr(options, name) for name in _GOES_WITH if getattr(options, name) is not None}
    for name in given:
        if way not in _GOES_WITH[name]:
            meant = ", ".join(f"--{other}" for other in _GOES_WITH[name])
            raise HeadscanError(
                f"--{name.replace('_', '-')} means nothing with --{way}, only with {meant}: leave it out"
            )
    if options.keep_mean is not None and not options.compensate:
        raise HeadscanError("--keep-mean says which mean to keep, and --no-compensate keeps none: give one of them")
    if options.out is None and not options.dry_run and (options.keep_mean is not None or not options.compensate):
        raise HeadscanError(
            "--keep-mean and --no-compensate say how a model is written, and an edit alone holds neither: give --out "
            "PATH, or leave them out"
        )
    return given


def _make(options: argparse.Namespace, scan: Scan, model: Model, given: dict[str, Any]) -> Edit:
    from headscan.dictionaries.vocabulary import read_vocabulary
    from headscan.edit import Edit

    if options.classes is not None:
        return Edit.for_classes(scan, model, read_vocabulary(options.classes).texts, **given)
    if options.judgements is not None:
        mapping = _score_map(given.pop("score_map", "5=0"))
        return Edit.from_judgements(scan, options.judgements, mapping, **given)
    if options.suppress is not None:
        return Edit.suppress(scan, model, like=options.suppress, **given)
    return Edit.amplify(scan, model, like=options.amplify, **given)


def _score_map(text: str) -> dict[int, float]:
    from headscan.errors import HeadscanError

    try:
        pairs = [pair.split("=") for pair in text.split(",")]
        found = {int(score): float(value) for score, value in pairs}
        if len(found) < len(pairs) or not set(found) <= {1, 2, 3, 4, 5}:
            raise ValueError
    except ValueError:
        raise HeadscanError(
            f"--score-map must be like 5=0,4=0.5, each score from 1 to 5 at most once, not {text!r}"
        ) from None
    return found


def _why_empty(edit: Edit) -> str:
    """Say why an edit holds no direction."""
    step = edit.info.steps[0] if len(edit.info.steps) == 1 else {}
    if step.get("directions_chosen") != 0 or "highest_score" not in step:
        return "every multiplier is 1"
    least = step["threshold"] if step["graded_from"] is None else step["graded_from"]
    return f"no direction matched, the highest score is {step['highest_score']:.3f} and {least:.3f} is needed"
