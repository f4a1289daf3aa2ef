"""``headscan encode``."""

from __future__ import annotations

import argparse

from headscan.cli.options import Commands, add_command, add_shared, concept_list, path
from headscan.cli.output import Output

_EXAMPLES = """\
examples:
  headscan encode demo --model demo --out words
  headscan encode words.parquet --column word --model ViT-L-14 --pretrained laion2b_s32b_b82k --out words
  headscan encode conceptnet:conceptnet-assertions-5.7.0.csv.gz --model demo --out conceptnet
  headscan encode concepts.txt.gz --model demo --template "a photo of a {}" --template "a drawing of a {}" --out two

A list is demo, wordnet, a text file with one concept a line (UTF-8, .gz allowed), a .csv, .tsv or .parquet table, a
folder of .parquet parts, .json, .jsonl or .yaml, or conceptnet: and ConceptNet's file of assertions. Line breaks and
tabs in a row become spaces; rows that are too long are left out and counted, or refused with --strict. The same
command resumes an encoding that was interrupted.
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    encode = add_command(
        commands,
        "encode",
        _run,
        summary="encode a list of concepts into a dictionary",
        description="Encode a list of concepts with a model's text tower into a folder that scan and others take.",
        examples=_EXAMPLES,
        tables=False,
    )
    encode.add_argument("list", metavar="LIST", type=concept_list, help="name or file of the list, see below")
    add = encode.add_argument
    add("--model", required=True, help="demo, an open_clip name, hf-hub:org/repo, local-dir:path")
    add("--out", metavar="DIR", type=path, required=True, help="folder for the dictionary")
    add_shared(encode, "pretrained")
    add_shared(encode, "column", "strict")
    add("--template", metavar="TEXT", action="append", help="text with {} for the concept; several are averaged")
    add_shared(encode, "batch_size", "device", "threads")
    types = ("float32", "float16", "bfloat16")
    add("--dtype", choices=types, default="float32", help="arithmetic; less than float32 on a GPU (default: float32)")


def _run(options: argparse.Namespace) -> Output:
    from headscan.dictionaries.by_name import Sources, encode_by_name

    sources = Sources(
        model=options.model, pretrained=options.pretrained, device=options.device, dtype=options.dtype,
        dictionary=options.list, template=options.template, batch_size=options.batch_size, threads=options.threads,
        column=options.column, strict=options.strict,
    )  # fmt: skip
    dictionary = encode_by_name(sources, options.out)
    folder = options.out.resolve()
    dropped = {name: getattr(dictionary, name) for name in ("blank", "repeated", "same_tokens")}
    line = (
        f"{len(dictionary):,} concepts of {dictionary.source} in {folder}; dropped {dictionary.blank:,} blank, "
        f"{dictionary.repeated:,} repeated, {dictionary.same_tokens:,} with the tokens of another"
    )
    facts = {
        "folder": str(folder),
        "source": dictionary.source,
        "concepts": len(dictionary),
        "dropped": dropped,
        "history": dictionary.history,
    }
    return Output([*dictionary.history, line], facts)
