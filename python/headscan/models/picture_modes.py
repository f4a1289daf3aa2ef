"""From any of pillow's modes to 8-bit RGB, by the range of values: pillow itself clips what has more than 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["as_rgb"]

_EIGHT, _SIXTEEN = 255, 65_535
_DARKEST = 32  # fractions up to no more than this may as well be light beyond white, of a picture with high range


def as_rgb(picture: Image) -> Image:
    """Return a picture in 8-bit RGB, turned as its EXIF data says; transparency is dropped, as open_clip does.

    16-bit grey is scaled by its full range; whole numbers of 32 bits by 255 or 65,535, whichever holds them;
    fractions by 1, 255 or 65,535 alike.

    Raises
    ------
    HeadscanError
        If the values are negative, not finite, or of no such range, as those of pictures with high dynamic range are.
    """
    from PIL import Image, ImageOps

    turned: Image.Image = ImageOps.exif_transpose(picture)
    if turned.mode.startswith("I") or turned.mode == "F":
        values = np.asarray(turned).astype(np.float64)
        top = (
            _SIXTEEN
            if turned.mode.startswith("I;16") or _is_png(picture)
            else _top(values, integers=turned.mode != "F")
        )
        scaled = np.clip(np.rint(values * (_EIGHT / top)), 0, _EIGHT).astype(np.uint8)
        turned = Image.fromarray(scaled)
    elif turned.mode in ("P", "PA"):
        turned = turned.convert("RGBA")
    return turned.convert("RGB")


def _is_png(picture: Image) -> bool:
    return picture.format == "PNG" and picture.mode == "I"  # 16 bits, as older versions of pillow read them


def _top(values: NDArray[np.float64], *, integers: bool) -> int:
    """Return which value is white."""
    least, most = float(values.min()), float(values.max())
    if not (np.isfinite(least) and np.isfinite(most)) or least < 0:
        raise HeadscanError(f"its values, {least:g} to {most:g}, are no brightness: negative or not finite")
    whole = bool((values == np.rint(values)).all())
    if most <= 1 and not integers:
        return 1
    if most <= _EIGHT and (whole or most > _DARKEST):
        return _EIGHT
    if _EIGHT < most <= _SIXTEEN and whole:
        return _SIXTEEN
    raise HeadscanError(
        f"its values, {least:g} to {most:g}, are of no known range (1, 255 or 65,535): high dynamic range is not "
        "read, save it in 8 or 16 bits"
    )
