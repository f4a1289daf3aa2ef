"""Ground: the images along which a head's directions are strongest, from a folder of pictures.

A head writes ``A @ (xhat @ left @ right + bias)`` into the residual stream. With ``left @ right = u S vh`` its
output at the class token along ``vh[i]`` is ``S_i (a @ xhat) . u_i`` plus a constant, where ``a`` is the class
token's row of the attention ``A``. One number an image, direction and head: the largest belong to the pole +,
the smallest to the pole -, of the read and of the written direction alike.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common.checks import whole_number
from headscan.common.terminal import progress_bar
from headscan.core.svd import svd_factored
from headscan.errors import HeadscanError
from headscan.heads.factors import vo_factors
from headscan.models.model import check_model
from headscan.models.pictures import preprocessing, read_folder, read_picture
from headscan.models.towers.forward import check_traceable, class_token_values

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

    from headscan.explanations.result import Scan
    from headscan.models.model import Model

__all__ = ["Grounding", "ground"]

_BATCH = 64
_THUMBNAIL = 96  # pixels: the longer side


@dataclass(frozen=True, eq=False)
class Grounding:
    """The top and bottom images of each direction; made by `ground`.

    Attributes
    ----------
    weights_hash : str
        SHA-256 of the model's weights, as in `ScanInfo`.
    layers : tuple of int
        The layers, in the order of the arrays' first axis.
    names : tuple of str
        The images' paths in their folder.
    thumbnails : tuple of bytes
        Each image as a small WebP.
    images : ndarray of int, shape (layers, heads, rank, 2, count)
        Numbers of images: at ``[..., 0, :]`` those of the pole +, the largest value first; at ``[..., 1, :]``
        those of the pole -, the smallest first.
    values : ndarray of float32, shape (layers, heads, rank, 2, count)
        The head's output at the class token along the written direction of the pole +, without the constant
        that it writes for every image.
    left_out : tuple of str
        Images of the folder that cannot be read, with reasons.
    """

    weights_hash: str
    layers: tuple[int, ...]
    names: tuple[str, ...]
    thumbnails: tuple[bytes, ...]
    images: NDArray[np.int64]
    values: NDArray[np.float32]
    left_out: tuple[str, ...] = ()

    def thumbnail(self, number: int) -> str:
        """Return an image's thumbnail as a data URI."""
        return f"data:image/webp;base64,{base64.b64encode(self.thumbnails[number]).decode('ascii')}"


def ground(
    scan: Scan, model: Model, *, images: str | Path, count: int = 6, progress: bool | None = None
) -> Grounding:
    """Find the top and bottom images of every direction of a scan's layers.

    Parameters
    ----------
    scan : Scan
        A scan of this model.
    model : Model
        From `load_model`: the model that was scanned.
    images : str or path
        A folder of pictures; folders in it are searched too.
    count : int, default 6
        Images per pole, fewer where there are fewer.
    progress : bool, optional
        Show a progress bar; by default only on a terminal.

    Returns
    -------
    Grounding

    Raises
    ------
    HeadscanError
        If the model is not the scanned one, has no class token or no plain attention, or the folder
        holds no picture that can be read.
    """
    import torch

    check_model(model)
    if model.weights_hash != scan.info.weights_hash:
        raise HeadscanError(
            f"the scan is of other weights than {model.name}: ground it with the model it was made from"
        )
    count = whole_number(count, "count", least=1)
    check_traceable(model.tower)
    pictures = read_folder(images)
    paths = pictures.paths
    layers = scan.info.layers
    maps = {layer: _direction_map(model, layer, fold=scan.info.folded) for layer in layers}
    best = _Best(min(count, len(paths)))
    thumbnails: list[bytes] = []
    with progress_bar("grounding", total=len(paths), unit="images", show=progress) as advance:
        for start in range(0, len(paths), _BATCH):
            pixels, small = _read(paths[start : start + _BATCH], model)
            mixed = class_token_values(model.tower, pixels, layers)
            along = [maps[layer](mixed[:, column]) for column, layer in enumerate(layers)]
            best.add(torch.stack(along, dim=1), first=start)
            thumbnails += small
            advance(len(small))
    names = tuple(path.relative_to(pictures.folder).as_posix() for path in paths)
    return Grounding(scan.info.weights_hash, layers, names, tuple(thumbnails), *best.result(), pictures.left_out)


class _Best:
    """The largest and smallest values so far, and whose they are; ties to the earlier image."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.values: Any = None
        self.images: Any = None

    def add(self, values: torch.Tensor, *, first: int) -> None:
        """Take in values (n, layers, heads, rank) of the images from `first`."""
        import torch

        both = torch.stack([values, -values], dim=-1).movedim(0, -1)  # (layers, heads, rank, 2, n)
        images = torch.arange(first, first + values.shape[0]).expand(both.shape)
        if self.values is not None:
            both, images = torch.cat([self.values, both], -1), torch.cat([self.images, images], -1)
        order = both.argsort(dim=-1, descending=True, stable=True)[..., : self.count]
        self.values, self.images = both.gather(-1, order), images.gather(-1, order)

    def result(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        signs = np.array([[1.0], [-1.0]], dtype=np.float32)
        return self.images.numpy(), self.values.numpy() * signs


def _direction_map(model: Model, layer: int, *, fold: bool) -> Any:
    """Return the map from a layer's mixed values (n, heads, rank) to values along its directions."""
    import torch

    factors = vo_factors(model, layers=[layer], fold=fold)
    _, _, vh = svd_factored(factors.left[0], factors.right[0])  # (heads, rank, width)
    matrix = torch.from_numpy(factors.right[0] @ vh.transpose(0, 2, 1)).float()  # (heads, rank, rank)
    constant = torch.from_numpy(np.einsum("hd,hid->hi", factors.bias[0], vh)).float()
    return lambda z: torch.einsum("nhr,hri->nhi", z, matrix) - constant


def _read(paths: Sequence[Path], model: Model) -> tuple[torch.Tensor, list[bytes]]:
    """Return images ready for the model, (n, 3, height, width), and their thumbnails."""
    import torch

    prepare = preprocessing(model)
    pixels, thumbnails = [], []
    for path in paths:
        picture = read_picture(path)
        pixels.append(prepare(picture))
        thumbnails.append(_thumbnail(picture))
    return torch.stack(pixels), thumbnails


def _thumbnail(picture: Image) -> bytes:
    small = picture.copy()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=80)
    return file.getvalue()
