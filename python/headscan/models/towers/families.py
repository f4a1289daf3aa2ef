"""The families of models: who they are, how they are named, and what can be read of each."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

__all__ = ["FAMILIES", "REFUSED", "Family", "families_text"]


@dataclass(frozen=True)
class Family:
    """A kind of tower.

    Attributes
    ----------
    name : str
        What it is called here.
    examples : tuple of str
        Architectures of open_clip's list, or classes of transformers, of this kind.
    towers, parts : tuple of str
        What of it can be scanned.
    joint : str
        The way into the joint space.
    """

    name: str
    examples: tuple[str, ...]
    towers: tuple[str, ...]
    parts: tuple[str, ...]
    joint: str


_ALL = ("vo", "qk", "mlp")
_LINEAR = "last layer norm, projection"
_POOL = "last layer norm, the attention pool of a lone token (value-output path, then its residual MLP)"
FAMILIES = (
    Family(
        "open_clip's own ViT (OpenAI, LAION, DataComp, MetaCLIP, DFN, CLIPA)",
        ("ViT-B-32", "ViT-L-14", "ViT-L-14-quickgelu", "ViT-H-14", "ViT-bigG-14"),
        ("image",),
        _ALL,
        _LINEAR,
    ),
    Family(
        "open_clip's own text transformer (of the towers above and below)",
        ("ViT-L-14", "ViT-B-16-SigLIP", "PE-Core-B-16"),
        ("text",),
        _ALL,
        "last layer norm, text projection",
    ),
    Family(
        "SigLIP and SigLIP 2 in open_clip (timm)",
        ("ViT-B-16-SigLIP", "ViT-SO400M-14-SigLIP", "ViT-B-16-SigLIP2"),
        ("image",),
        _ALL,
        _POOL,
    ),
    Family("PE-Core in open_clip (timm)", ("PE-Core-B-16", "PE-Core-L-14-336"), ("image",), ("vo", "mlp"), _POOL),
    Family(
        "EVA-01 and plain ViTs in open_clip (timm)",
        ("EVA01-g-14", "MobileCLIP2-L-14", "vit_medium_patch16_gap_256"),
        ("image",),
        _ALL,
        _LINEAR,
    ),
    Family("CLIP and MetaCLIP 2 of transformers", ("CLIPModel", "MetaClip2Model"), ("image", "text"), _ALL, _LINEAR),
    Family(
        "SigLIP and SigLIP 2 of transformers",
        ("SiglipModel", "Siglip2Model"),
        ("image", "text"),
        _ALL,
        f"image: {_POOL}; text: {_LINEAR}",
    ),
)
REFUSED = {
    "EVA-02 image towers (EVA02-B-16, EVA02-L-14)": "a layer norm between values and output: V to O is not linear",
    "EVA02-E-14 image towers": "a layer norm after the attention: a head's output is not linear",
    "CoCa image towers": "an attention pool with a layer norm after it",
    "PE-Core, part qk": "rotary position embedding between queries and keys",
    "ResNets, ConvNeXt, Swin, FastViT, ViTamin, relative-position ViTs": "not transformers of the kinds above",
    "text towers of Hugging Face inside open_clip (RoBERTa, mT5, NLLB)": "no adapter",
}
_WAYS = """\
A model is named by an open_clip architecture with --pretrained TAG or FILE (.safetensors, .pt), by hf-hub:ORG/REPO,
or by local-dir:PATH (open_clip_config.json; or transformers' config.json and tokenizer, which needs headscan[hf]).
"""


def families_text() -> str:
    """Return the families and what is refused, for reading."""
    lines = []
    for family in FAMILIES:
        lines.append(f"{family.name}\n")
        for label, value in (
            ("for example", ", ".join(family.examples)),
            ("towers", ", ".join(family.towers)),
            ("parts", ", ".join(family.parts)),
            ("joint space", family.joint),
        ):
            wrapped = textwrap.wrap(value, 100, subsequent_indent=" " * 15)
            lines.append(f"  {label:<12} {chr(10).join(wrapped)}\n")
    lines.append("refused, by name\n")
    for name, why in REFUSED.items():
        lines.append(f"  {name}: {why}\n")
    return "".join(lines) + _WAYS
