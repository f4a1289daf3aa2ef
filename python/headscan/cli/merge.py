"""``headscan merge``."""

from __future__ import annotations

import argparse

from headscan.cli.options import Commands, add_command, add_shared, path
from headscan.cli.output import Output

_EXAMPLES = """\
examples:
  headscan merge demo my-lora-adapter --out demo-tuned
  headscan merge ViT-B-32 my-lora-adapter --pretrained openai --out tuned.safetensors

The adapter is LoRA's, as peft saves it. headscan compare takes it as it is, without merging.
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    merge = add_command(
        commands,
        "merge",
        _run,
        summary="merge a LoRA adapter into a model's weights",
        description="Write a model with a LoRA adapter's change in its weights, as an ordinary checkpoint.",
        examples=_EXAMPLES,
        tables=False,
    )
    add_shared(merge, "model", model="the adapter's base: demo, an open_clip name, hf-hub:org/repo, local-dir:path")
    merge.add_argument("adapter", metavar="ADAPTER", help="folder of a LoRA adapter, or hf-hub:org/repo")
    where = "folder of the checkpoint, or FILE.safetensors"
    merge.add_argument("--out", metavar="PATH", type=path, required=True, help=where)
    add_shared(merge, "pretrained", "force")


def _run(options: argparse.Namespace) -> Output:
    from headscan.edit.merge import merge_by_name

    merged, target = merge_by_name(
        options.model, options.adapter, options.out, pretrained=options.pretrained, force=options.force
    )
    count = len(merged.edit.modules)
    facts = {"model": str(target), "base": merged.name, "adapter": merged.edit.adapter, "modules": count}
    line = f"{merged.edit.adapter} merged into {merged.name}: {count} modules change; model saved in {target}"
    return Output([line], facts)
