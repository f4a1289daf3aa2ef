"""``headscan scan``."""

from __future__ import annotations

import argparse
import sys

from headscan.cli.options import (
    Commands,
    add_command,
    at_least,
    concept_list,
    folder,
    layers,
    limit_threads,
    parts,
    sides,
)

_EXAMPLES = """\
examples:
  headscan scan demo --out out
  headscan scan ViT-L-14 --pretrained laion2b_s32b_b82k --layers 20-23 --out out
  headscan scan demo --parts vo,qk,mlp --tower text --out out
  headscan scan local-dir:my-clip --dictionary concepts.txt --sides write,read -k 3 --out out
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    scan = add_command(
        commands,
        "scan",
        _run,
        summary="explain every head of a model",
        description="Explain the singular directions of every head of a CLIP model's tower, in words.",
        examples=_EXAMPLES,
    )
    scan.add_argument("model", metavar="MODEL", help="demo, an open_clip name, hf-hub:org/repo, local-dir:path")
    table = "explanations.parquet and manifest.json"
    scan.add_argument("--out", metavar="DIR", type=folder, required=True, help=f"folder for {table}")
    _add_sources(scan)
    _add_choices(scan)


def _add_sources(scan: argparse.ArgumentParser) -> None:
    add = scan.add_argument_group("model and dictionary").add_argument
    add("--pretrained", metavar="TAG", help="weights of an open_clip name: a tag, a checkpoint file, random")
    means = "mean image embedding: .safetensors, .npy, folder:PICTURES, estimate:noise, none"
    add("--image-mean", metavar="FILE|...", help=means)
    add("--batch-size", metavar="N", type=at_least(int, 1), default=256, help="texts encoded at a time (256)")
    add("--device", metavar="NAME", help="where the work is done, cuda say (default: cpu)")
    lists = "demo, wordnet, a text file with one concept a line, or a saved folder"
    default = "demo for the demo model, else wordnet"
    add("--dictionary", metavar="NAME|FILE|DIR", type=concept_list, help=f"{lists} (default: {default})")
    add("--template", metavar="TEXT", help="text with {} for the concept, 'a photo of a {}' say (default: {})")


def _add_choices(scan: argparse.ArgumentParser) -> None:
    from headscan.common.checks import MAX_THREADS

    add = scan.add_argument_group("what to explain, and how").add_argument
    add("--tower", choices=("image", "text"), default="image", help="which tower (default: image)")
    of_parts = "vo: value-output, qk: query-key, mlp: output matrix; one or more, by comma (default: vo)"
    add("--parts", metavar="PARTS", type=parts, default=("vo",), help=of_parts)
    add("--layers", metavar="all|20-23", type=layers, default="all", help="numbered from 0 (default: all)")
    add(
        "--sides",
        metavar="SIDES",
        type=sides,
        default=("write",),
        help="of part vo: write, read or both, by comma (default: write)",
    )
    add("--poles", choices=("both", "+", "-"), default="both", help="which poles (default: both)")
    add("-k", metavar="N", type=at_least(int, 1), default=5, help="concepts per explanation (default: 5)")
    weight = "weight of the concepts' similarity to one another (default: 0.3)"
    add("--coherence", metavar="X", type=at_least(float, 0), default=0.3, help=weight)
    add("--no-fold", action="store_true", help="leave the layer norm out of the weights")
    compared = "random directions to compare fidelities with; 0: none (default: 1000)"
    add("--significance", metavar="N", type=at_least(int, 0), default=1000, help=compared)
    threads = at_least(int, 0, MAX_THREADS)
    add("--threads", metavar="N", type=threads, default=0, help="0: all that may be used (default)")
    add("--show", metavar="N", type=at_least(int, 0), default=10, help="directions to print (default: 10)")


def _run(options: argparse.Namespace) -> None:
    from headscan.cli.tables import print_strongest, summary
    from headscan.core import _core, devices
    from headscan.dictionaries.load import load_dictionary
    from headscan.explanations.result import check_destination
    from headscan.explanations.scan import scan
    from headscan.heads.layers import select_layers
    from headscan.models.load import load_model

    check_destination(options.out)
    _core.build_info()  # refuses bad settings in the environment, before the work
    device = options.device if options.device and options.device.startswith("cuda") else None
    devices.devices_for(None, device, "the model")
    limit_threads(options.threads)
    model = load_model(
        options.model, pretrained=options.pretrained, device=options.device, image_mean=options.image_mean
    )
    tower = model.get_tower(options.tower)
    select_layers(options.layers, count=tower.layers, tower=options.tower)  # before the dictionary is encoded
    name = options.dictionary
    if name is None:
        name = "demo" if options.model == "demo" else "wordnet"
    dictionary = load_dictionary(
        name, model=model, template=options.template, batch_size=options.batch_size, at_least=options.k
    )
    result = scan(
        model, dictionary, tower=options.tower, parts=options.parts, layers=options.layers, sides=options.sides,
        poles=options.poles, k=options.k, coherence=options.coherence, fold=not options.no_fold,
        significance=options.significance,
        threads=options.threads, device=device,
    )  # fmt: skip
    saved = result.save(options.out)
    sys.stdout.write(f"{summary(model, dictionary, tower=options.tower)}\n")
    if options.show:
        sys.stdout.flush()
        print_strongest(result, rows=options.show)
    certified = int(result.explanations["certified"].sum())
    sys.stdout.write(f"{len(result):,} explanations ({certified:,} certified exact) saved in {saved}\n")
