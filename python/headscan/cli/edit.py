"""``headscan edit``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from headscan.cli.options import Commands, add_command, add_shared, path
from headscan.cli.output import Output, Table, records
from headscan.errors import HeadscanError

if TYPE_CHECKING:
    import pandas as pd

_EXAMPLES = """\
examples:
  headscan edit demo --scan out --suppress "forest, meadow, sea, lake" --layers 4-7 --out demo-without-scenery
  headscan edit demo --scan out --suppress "forest, meadow, sea, lake" --layers 4-7 --dry-run
  headscan edit demo --scan out --amplify "bird, fish" --strength 1.5 --out demo-animals
  headscan edit demo --scan out --classes birds.txt --out demo-birds
  headscan edit demo --scan out --direction 7.2.9 --direction 6.0.26 --strength 0.5 --dry-run
  headscan edit demo --scan out --judgements scores.csv --score-map 5=0,4=0.5 --out demo-judged
  headscan edit local-dir:my-clip --edit edit.json --out edited.safetensors
"""

_MATCH = ("suppress", "amplify")
_SCAN_WAYS = (*_MATCH, "classes", "judgements", "direction")
_GOES_WITH = {  # an option of how, and the ways it has a meaning for
    "strength": (*_MATCH, "direction"),
    **dict.fromkeys(("threshold", "graded", "unlike"), _MATCH),
    **dict.fromkeys(("poles", "layers"), (*_MATCH, "classes", "judgements")),
    "dictionary": (*_MATCH, "classes"),
    "score_map": ("judgements",),
    **dict.fromkeys(("column", "strict"), ("classes",)),
}


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    edit = add_command(
        commands,
        "edit",
        _run,
        summary="suppress or amplify concepts in the weights",
        description="Scale singular directions of attention heads and save an ordinary checkpoint.",
        examples=_EXAMPLES,
    )
    add_shared(edit, "model", "pretrained", model="the model that was scanned, named as for headscan scan")
    add = edit.add_argument
    add("--scan", metavar="DIR", type=path, help="its saved scan; not needed with --edit")
    lost = "what the scan was made with, a list, file or folder, where the cache has it no more"
    add_shared(edit, "dictionary", dictionary=lost)
    add("--out", metavar="PATH", type=path, help="folder of the checkpoint, or FILE.safetensors")
    add("--dry-run", action="store_true", help="show what would change, by how much; write no model")
    add("--save-edit", metavar="FILE", type=path, help="write the edit itself, as JSON")
    add_shared(edit, "force", "show", show="heads to show (default: 10)")
    _add_ways(edit)
    _add_choices(edit)
    edit.set_defaults(layers=None, strict=None)  # given or not: it means nothing with --edit


def _add_ways(edit: argparse.ArgumentParser) -> None:
    group = edit.add_argument_group("where the multipliers come from (one of these)")
    add = group.add_mutually_exclusive_group(required=True).add_argument
    add("--suppress", metavar="TEXTS", help="scale down what these texts name; several by comma")
    add("--amplify", metavar="TEXTS", help="scale up what these texts name")
    add("--classes", metavar="FILE", type=path, help="scale by relevance for the class names of this list")
    add("--judgements", metavar="FILE", type=path, help="scores 1 to 5: .csv, .json or .jsonl")
    of_heads = "scale this direction, whatever it says; may be repeated"
    add("--direction", metavar="LAYER.HEAD.INDEX", type=_direction, action="append", help=of_heads)
    add("--edit", metavar="FILE", type=path, help="an edit saved before")


def _add_choices(edit: argparse.ArgumentParser) -> None:
    how = edit.add_argument_group("how")
    add = how.add_argument
    add("--strength", metavar="X", type=float, help="the multiplier (default: 0, or 2 to amplify)")
    least = "choose by this least score, whatever chance says (default: what is better than chance, q-values of 0.05)"
    add("--threshold", metavar="X", type=float, help=least)
    graded = "scale by degree of match, from what half of random directions reach to the highest score"
    add("--graded", action="store_true", default=None, help=graded)
    add("--unlike", metavar="TEXTS", help="concepts nearer to these count against the match")
    add("--poles", choices=("any", "all", "mean"), help="which poles have to match (default: any)")
    add_shared(how, "layers", layers="only these of the scan's (default: all)")
    add_shared(how, "column", "strict", column="of the class names: column of a table or key of JSON's objects")
    add("--score-map", metavar="MAP", type=_score_map, help="multipliers of scores (default: 5=0)")
    scaled = "keep the heads' constants out of the scaling (default), or scale them too"
    add("--compensate", action=argparse.BooleanOptionalAction, default=True, help=scaled)
    kept = "keep what the heads write on average over these pictures, or as estimated from the model's image mean"
    add("--keep-mean", metavar="DIR|estimate", type=path, help=kept)


def _run(options: argparse.Namespace) -> Output:
    from headscan.edit.by_name import edit_by_name

    way = next(name for name in (*_SCAN_WAYS, "edit") if getattr(options, name) is not None)
    _check_together(options, way)
    how = {name: getattr(options, name) for name in _GOES_WITH if getattr(options, name) is not None}
    run = edit_by_name(
        options.model, way=way, of=getattr(options, way), pretrained=options.pretrained, scan=options.scan,
        dictionary=how.pop("dictionary", None), how=how, compensate=options.compensate,
        keep_mean=options.keep_mean, out=None if options.dry_run else options.out, save_edit=options.save_edit,
        force=options.force,
    )  # fmt: skip
    largest = run.changes.sort_values("output_change", ascending=False).head(options.show)
    parts: list[str | Table] = [str(run.edit), Table("changes", "The heads that change most", records(largest))]
    parts.append(_reasons(run.reasons))
    written = {"edit": run.edit_path, "edited model": run.model_path}
    parts += [f"{name} saved in {where}" for name, where in written.items() if where is not None]
    facts: dict[str, Any] = {"edit": run.edit_path, "model": run.model_path}
    named = {name: None if where is None else str(where) for name, where in facts.items()}
    return Output(parts, {"directions": len(run.edit), **named})


def _reasons(table: pd.DataFrame) -> Table:
    """Return what is scaled in words, with the scores and q-values that it was chosen by."""
    shown = {"q_explanation": "{:.2g}", "q_match": "{:.2g}", "nearest": "{:.2%}"}
    rows = records(table)
    text = [
        {
            name: value if value is None or name not in shown else shown[name].format(value)
            for name, value in row.items()
        }
        for row in rows
    ]
    return Table("directions", "What is scaled, and why", rows, text=text)


def _check_together(options: argparse.Namespace, way: str) -> None:
    """Raise unless the options go together, and there is something to do."""
    if not options.dry_run and options.out is None and options.save_edit is None:
        raise HeadscanError(
            "nothing to do: give --out PATH, --save-edit FILE or --dry-run (see headscan edit --help)"
        )
    for name, ways in _GOES_WITH.items():
        if getattr(options, name) is not None and way not in ways:
            meant = ", ".join(f"--{other}" for other in ways)
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


def _direction(text: str) -> tuple[int, ...]:
    numbers = text.split(".")
    if len(numbers) != 3 or not all(number.isascii() and number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"expected a layer, head and index, from 0, as in 7.2.9, not {text!r}")
    return tuple(map(int, numbers))


def _score_map(text: str) -> dict[int, float]:
    try:
        pairs = [pair.split("=") for pair in text.split(",")]
        scores = {int(score): float(value) for score, value in pairs}
        if len(scores) < len(pairs) or not set(scores) <= {1, 2, 3, 4, 5}:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected scores like 5=0,4=0.5, each score from 1 to 5 at most once, not {text!r}"
        ) from None
    return scores
