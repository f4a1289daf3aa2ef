"""``headscan explain``."""

from __future__ import annotations

import argparse

from headscan.cli.options import Commands, add_command, add_shared, path
from headscan.cli.output import Output, Table, records

_EXAMPLES = """\
examples:
  headscan explain --text "a red boat on the sea" demo
  headscan explain --image dog.png ViT-L-14 --pretrained laion2b_s32b_b82k --show 20
  headscan explain --vector embedding.npy local-dir:my-clip --dictionary concepts.txt -k 10
"""
_COLUMNS = ("layer", "head", "index", "pole", "share", "fidelity", "concepts")


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    explain = add_command(
        commands,
        "explain",
        _run,
        summary="explain an image, a text or an embedding in concepts",
        description="Explain an embedding as a sum of concepts, and an image's by the directions that wrote it.",
        examples=_EXAMPLES,
    )
    add_shared(explain, "model")
    what = explain.add_mutually_exclusive_group(required=True).add_argument
    what("--image", metavar="FILE", type=path, help="a picture, preprocessed as the model's own are")
    what("--text", metavar="TEXT", help="a text, encoded as it is")
    what("--vector", metavar="FILE", type=path, help="an embedding of the joint space, .npy")
    add_shared(explain, "pretrained", "image_mean", "device", "dictionary", "column", "strict")
    add_shared(explain, "k", "coherence", "threads", "show")


def _run(options: argparse.Namespace) -> Output:
    from headscan.dictionaries.by_name import Sources
    from headscan.explanations.by_name import explain_by_name

    sources = Sources(
        model=options.model, pretrained=options.pretrained, image_mean=options.image_mean, device=options.device,
        dictionary=options.dictionary, column=options.column, strict=options.strict, threads=options.threads,
    )  # fmt: skip
    explanation, directions = explain_by_name(
        sources, image=options.image, text=options.text, vector=options.vector, k=options.k,
        coherence=options.coherence, directions=options.show,
    )  # fmt: skip
    kind, concepts = explanation.kind, records(explanation.table())
    title = f"The {kind} in {len(concepts)} concepts: fidelity {explanation.fidelity:.3f}"
    parts: list[str | Table] = [Table("concepts", title, concepts)]
    facts = {"kind": kind, "fidelity": explanation.fidelity, "certified": explanation.certified}
    if directions is not None and explanation.contributions is not None:
        shares = explanation.contributions.table().groupby("part")["share"].sum().sort_values(ascending=False)
        whole = ", ".join(f"{part} {share:.0%}" for part, share in shares.items())
        parts += ["", f"Shares of the embedding by what wrote it: {whole}", ""]
        parts.append(Table("directions", "The directions that wrote most of it", records(directions), _COLUMNS))
        facts["shares"] = shares.to_dict()
    return Output(parts, facts)
