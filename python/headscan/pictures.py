"""`headscan.models.pictures` under the name that it had before."""

from __future__ import annotations

from headscan.models.pictures import embed_images, embed_pixels, preprocess, read_picture

__all__ = ["embed_images", "embed_pixels", "preprocess", "read_picture"]
