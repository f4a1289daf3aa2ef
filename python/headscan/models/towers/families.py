"""The families of models: who they are, how they are named, and what can be read of each."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from headscan.models.towers.readers import NO_HEADS

__all__ = ["FAMILIES", "REFUSED", "Family", "families_text"]


@dataclass(frozen=True)
class Family:
    """A kind of model.

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
    note : str
        What else to know of its directions.
    edits : bool
        Whether its vision heads can be edited.
    """

    name: str
    examples: tuple[str, ...]
    towers: tuple[str, ...]
    parts: tuple[str, ...]
    joint: str
    note: str = ""
    edits: bool = True


_BOTH, _ALL = ("image", "text"), ("vo", "qk", "mlp")
_LINEAR = "last layer norm, projection"
_POOL = "last layer norm, the attention pool of a lone token (value-output path, then its residual MLP)"
_SCALED = "a layer norm {} the attention: what heads write holds up to a positive scale of each token"
FAMILIES = (
    Family(
        "open_clip's own ViT (OpenAI, LAION, DataComp, MetaCLIP, DFN, CLIPA)",
        ("ViT-B-32", "ViT-L-14", "ViT-L-14-quickgelu", "ViT-H-14", "ViT-bigG-14", "ViT-L-14-CLIPA"),
        _BOTH,
        _ALL,
        _LINEAR,
    ),
    Family(
        "SigLIP and SigLIP 2 in open_clip (timm)",
        ("ViT-B-16-SigLIP", "ViT-SO400M-14-SigLIP", "ViT-B-16-SigLIP2", "ViT-SO400M-16-SigLIP-i18n-256"),
        _BOTH,
        _ALL,
        f"image: {_POOL}; text: {_LINEAR}",
    ),
    Family(
        "PE-Core in open_clip (timm)",
        ("PE-Core-B-16", "PE-Core-L-14-336"),
        _BOTH,
        ("vo", "mlp"),
        f"image: {_POOL}; text: {_LINEAR}",
        note="part qk of the text tower alone: the image tower rotates its queries and keys",
    ),
    Family(
        "EVA-01, MobileCLIP's ViTs, ViTamin, relative-position and plain ViTs in open_clip (timm)",
        (
            "EVA01-g-14",
            "MobileCLIP2-L-14",
            "ViTamin-S",
            "vit_medium_patch16_gap_256",
            "vit_relpos_medium_patch16_cls_224",
        ),
        _BOTH,
        _ALL,
        _LINEAR,
    ),
    Family(
        "EVA-02 B and L in open_clip (timm)",
        ("EVA02-B-16", "EVA02-L-14"),
        _BOTH,
        ("vo", "mlp"),
        _LINEAR,
        note=_SCALED.format("inside"),
        edits=False,
    ),
    Family(
        "EVA-02 E in open_clip (timm)",
        ("EVA02-E-14",),
        _BOTH,
        _ALL,
        _LINEAR,
        note=_SCALED.format("after"),
        edits=False,
    ),
    Family(
        "Swin in open_clip (timm)",
        ("swin_base_patch4_window7_224",),
        _BOTH,
        _ALL,
        _LINEAR,
        note="the layers of the last stage: those before it write into narrower streams, merged on the way",
    ),
    Family(
        "CoCa in open_clip",
        ("coca_ViT-B-32", "coca_ViT-L-14"),
        _BOTH,
        _ALL,
        "image: last layer norm, the attention pool of a lone token, its layer norm, projection; text: " + _LINEAR,
    ),
    Family(
        "ResNets in open_clip",
        ("RN50", "RN50x4", "RN101-quickgelu"),
        _BOTH,
        ("vo",),
        "image: none is needed; text: " + _LINEAR,
        note="the heads of the attention pool behind the convolutions, which write into the joint space itself: one "
        "layer, side 'write' alone",
    ),
    Family(
        "NLLB-CLIP in open_clip",
        ("nllb-clip-base", "nllb-clip-large-siglip"),
        _BOTH,
        _ALL,
        f"as its image tower has; text: {_LINEAR}",
    ),
    Family(
        "RoBERTa, XLM-RoBERTa and mT5 text towers in open_clip",
        ("roberta-ViT-B-32", "xlm-roberta-base-ViT-B-32", "mt5-base-ViT-B-32", "coca_roberta-ViT-B-32"),
        ("image",),
        _ALL,
        _LINEAR,
        note="texts make dictionaries; text heads are refused by name (normalised after each part, or end in an MLP)",
    ),
    Family(
        "CLIP's kind in transformers",
        ("CLIPModel", "CLIPSegModel", "FlavaModel", "MetaClip2Model", "Owlv2Model", "OwlViTModel", "XCLIPModel"),
        _BOTH,
        _ALL,
        _LINEAR,
        note="X-CLIP: each frame by itself, before its multiframe transformer; CLIPSegForImageSegmentation, "
        "OwlViTForObjectDetection and Owlv2ForObjectDetection: the model inside",
    ),
    Family(
        "CLIP's kind with a text tower of BERT's kind in transformers",
        ("AltCLIPModel", "BlipForImageTextRetrieval", "ChineseCLIPModel", "VisionTextDualEncoderModel"),
        ("image",),
        _ALL,
        _LINEAR,
        note="texts make dictionaries; text heads are refused by name (normalised after each part)",
    ),
    Family(
        "SigLIP and SigLIP 2 in transformers",
        ("SiglipModel", "Siglip2Model"),
        _BOTH,
        _ALL,
        f"image: {_POOL}; text: {_LINEAR}",
    ),
)
REFUSED = {
    "ConvNeXt image towers": NO_HEADS["timm.ConvNeXt"],
    "FastViT image towers (MobileCLIP S0 to S4)": NO_HEADS["timm.FastVit"],
    "part qk of the image towers of PE-Core and EVA-02 B and L": "rotary position embedding between queries and keys",
    "edits of EVA-02": "a layer norm mixes what the heads write: a change of one head changes the scale of all",
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
            ("edits", "of vision heads" if family.edits else "refused"),
            ("note", family.note),
        ):
            if not value:
                continue
            wrapped = textwrap.wrap(value, 100, subsequent_indent=" " * 15)
            lines.append(f"  {label:<12} {chr(10).join(wrapped)}\n")
    lines.append("refused, by name\n")
    for name, why in REFUSED.items():
        wrapped = textwrap.wrap(f"{name}: {why}", 114, initial_indent="  ", subsequent_indent="    ")
        lines.append("\n".join(wrapped) + "\n")
    return "".join(lines) + _WAYS
