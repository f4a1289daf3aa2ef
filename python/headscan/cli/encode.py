"""``headscan encode``."""

from __future__ import annotations

import argparse
import sys

from headscan.cli.options import Commands, add_command, at_least, concept_list, folder, limit_threads
from headscan.errors import HeadscanError

_EXAMPLES = """\
examples:
  headscan encode demo --model demo --out words
  headscan encode words.parquet --column word --model ViT-L-14 --pretrained laion2b_s32b_b82k --out words
  headscan encode conceptnet:conceptnet-assertions-5.7.0.csv.gz --model demo --out conceptnet
  headscan encode concepts.txt.gz --model demo --template "a photo of a {}" --template "a drawing of a {}" --out two

A list is demo, wordnet, a text file with one concept a line (UTF-8, .gz allowed), a .csv, .tsv or .parquet table,
or conceptnet: and ConceptNet's file of assertions. The same command resumes an encoding that was interrupted.
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    encode = add_command(
        commands,
        "encode",
        _run,
        summary="encode a list of concepts into a dictionary",
        description="Encode a list of concepts with a model's text tower into a folder that scan and others take.",
        examples=_EXAMPLES,
    )
    encode.add_argument("list", metavar="LIST", type=concept_list, help="name or file of the list, see below")
    add = encode.add_argument
    add("--model", required=True, help="demo, an open_clip name, hf-hub:org/repo, local-dir:path")
    add("--out", metavar="DIR", type=folder, required=True, help="folder for the dictionary")
    add("--pretrained", metavar="TAG", help="weights of an open_clip name: a tag, a checkpoint file, random")
    add("--column", metavar="NAME", help="column of a table; may be left out where there is only one")
    add("--template", metavar="TEXT", action="append", help="text with {} for the concept; several are averaged")
    add("--batch-size", metavar="N", type=at_least(int, 1), default=256, help="texts encoded at a time (256)")
    add("--device", metavar="NAME", default="cpu", help="where the text tower runs (default: cpu)")
    types = ("float32", "float16", "bfloat16")
    add("--dtype", choices=types, default="float32", help="arithmetic; less than float32 on a GPU (default: float32)")
    add("--threads", metavar="N", type=at_least(int, 0), default=0, help="0: all that may be used (default)")


def _run(options: argparse.Namespace) -> None:
    from headscan.dictionaries.dictionary import save_place
    from headscan.dictionaries.load import encode_dictionary
    from headscan.models.load import load_model

    if options.dtype != "float32" and options.device.split(":")[0] == "cpu":
        raise HeadscanError(f"--dtype {options.dtype} runs on a GPU: name it with --device, cuda say")
    save_place(options.out)  # before the model is loaded
    limit_threads(options.threads)
    model = load_model(options.model, pretrained=options.pretrained, device=options.device, dtype=options.dtype)
    dictionary = encode_dictionary(
        options.list, options.out, model=model, template=options.template, column=options.column,
        batch_size=options.batch_size,
    )  # fmt: skip
    sys.stdout.write(
        f"{len(dictionary):,} concepts of {dictionary.source} in {options.out.resolve()}; dropped "
        f"{dictionary.blank:,} blank, {dictionary.repeated:,} repeated, {dictionary.same_tokens:,} with the tokens "
        "of another\n"
    )
