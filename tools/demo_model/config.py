"""The shape of the demo CLIP, in open_clip's own configuration format, shared by training and export."""

from __future__ import annotations

from typing import Any

IMAGE_SIZE = 48
CONTEXT_LENGTH = 77
TRAINED_TOKENS = 16
"""Texts of training are no longer; later places keep a position of zero."""
VOCABULARY_SIZE = 49408
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)

MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": IMAGE_SIZE,
        "patch_size": 8,
        "width": 128,
        "layers": 8,
        "head_width": 32,
        "mlp_ratio": 4.0,
    },
    "text_cfg": {
        "context_length": CONTEXT_LENGTH,
        "vocab_size": VOCABULARY_SIZE,
        "width": 128,
        "heads": 4,
        "layers": 3,
    },
}

PREPROCESS_CONFIG: dict[str, Any] = {
    "mean": list(MEAN),
    "std": list(STD),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
