"""Measures on labelled pictures: do explanations say what drives a model, and what do edits change."""

from __future__ import annotations

from headscan.evaluate.ablation import without_heads
from headscan.evaluate.groups import GroupAccuracy, group_accuracy
from headscan.evaluate.retrieval import Retrieval, retrieval
from headscan.evaluate.zero_shot import ZeroShot, read_image_folder, zero_shot
from headscan.models.pictures import embed_images
from headscan.models.prompts import class_embeddings

__all__ = [
    "GroupAccuracy",
    "Retrieval",
    "ZeroShot",
    "class_embeddings",
    "embed_images",
    "group_accuracy",
    "read_image_folder",
    "retrieval",
    "without_heads",
    "zero_shot",
]
