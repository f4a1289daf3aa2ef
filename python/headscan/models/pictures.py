"""Pictures: read, prepared as a model's own preprocessing does, and embedded."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.common import files
from headscan.common.checks import whole_number
from headscan.common.terminal import one_line
from headscan.common.vectors import normalise
from headscan.errors import HeadscanError
from headscan.models.hugging_face import image_processor, is_transformers
from headscan.models.model import check_model
from headscan.models.picture_modes import as_rgb
from headscan.models.towers.embedding import embed_preprocessed
from headscan.models.towers.forward import evaluating

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

    from headscan.models.model import Model

__all__ = [
    "PICTURE_SUFFIXES",
    "PictureFolder",
    "embed_images",
    "embed_pixels",
    "pictures_in",
    "prepared",
    "preprocess",
    "preprocessing",
    "read_folder",
    "read_picture",
    "readable_pictures",
]


PICTURE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_OTHER_SUFFIXES = (".avif", ".exr", ".hdr", ".heic", ".heif", ".jxl")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PictureFolder:
    """The pictures of a folder.

    Attributes
    ----------
    folder : Path
    paths : tuple of Path
        Those that can be read, sorted.
    left_out : tuple of str
        Of each of the others why not, with its path; last, if there are any, how many are of kinds that are not read.
    """

    folder: Path
    paths: tuple[Path, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        """Say what is read and what is left out, with reasons."""
        out = f"; left out: {'; '.join(self.left_out)}" if self.left_out else ""
        return f"{len(self.paths):,} pictures of {self.folder}{out}"


def read_folder(folder: str | Path) -> PictureFolder:
    """Return the pictures in a folder and those below it; what cannot be read is left out, with a warning.

    Every picture is decoded once to be sure.

    Raises
    ------
    HeadscanError
        If there is no such folder, or no picture in it that can be read.
    """
    root = files.expanded(folder)
    if not root.is_dir():
        raise HeadscanError(f"there is no folder of pictures {root}")
    paths = pictures_in(root)
    if not paths:
        raise HeadscanError(f"{root} holds no pictures ({', '.join(PICTURE_SUFFIXES)}){_unknown(root)}")
    readable, reasons = readable_pictures(paths)
    if not readable:
        raise HeadscanError(f"none of the {len(paths):,} pictures in {root} can be read: {reasons[0]}")
    if reasons or _unknown(root):
        _log.warning("%d of %d pictures left out%s: %s", len(reasons), len(paths), _unknown(root), "; ".join(reasons))
    return PictureFolder(root, tuple(readable), (*reasons, *filter(None, [_unknown(root).removeprefix(", and ")])))


def readable_pictures(paths: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """Return those of some pictures that can be read, and of each of the others why not."""
    readable, reasons = [], []
    for path in paths:
        try:
            read_picture(path)
            readable.append(path)
        except HeadscanError as error:
            reasons.append(str(error))
    return readable, reasons


def _unknown(folder: Path) -> str:
    """Say how many pictures of kinds that are not read a folder holds; nothing if there are none."""
    other = [path.name for path in _files_in(folder) if path.suffix.lower() in _OTHER_SUFFIXES]
    return f", and {len(other)} of kinds that are not read ({', '.join(sorted(other)[:5])})" if other else ""


def read_picture(path: str | Path) -> Image:
    """Return a picture in 8-bit RGB by its range of values, turned as its EXIF says; an animation's first frame.

    What is transparent in it shows the colour that lies under it, as in open_clip.

    Raises
    ------
    HeadscanError
        If it is no path, cannot be read, is larger than pillow takes for safe, or has a high dynamic range.
    """
    from PIL import Image

    if not isinstance(path, (str, Path)):
        raise HeadscanError(f"a picture is read from a path, not {type(path).__qualname__}")
    file = files.expanded(path)
    if not file.exists():
        raise HeadscanError(f"there is no picture {file}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                _check_range(file)
                if frames := getattr(opened, "n_frames", 1) - 1:
                    _log.info("%s: the first of %d frames is read", file, frames + 1)
                return as_rgb(opened)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise HeadscanError(f"cannot read the picture {file}: {one_line(str(error))}") from error


def _check_range(path: Path) -> None:
    """Raise if a PNG says that it holds light beyond white: a cICP chunk with PQ or HLG (PNG, third edition)."""
    with path.open("rb") as file:
        head = file.read(4096).split(b"IDAT")[0]
    offset = head.find(b"cICP")
    if head.startswith(b"\x89PNG") and offset > 0 and head[offset + 5 : offset + 6] in (b"\x10", b"\x12"):
        raise ValueError("it has a high dynamic range (PQ or HLG): save it in ordinary RGB")


def preprocess(model: Model, image: str | Path | Image) -> torch.Tensor:
    """Return an image as its model expects it, (3, height, width): resized, cropped and normalised as in training.

    Parameters
    ----------
    model : Model
        From `load_model`. How it preprocesses is in its checkpoint's configuration.
    image : path or PIL image

    Raises
    ------
    HeadscanError
        If the model does not say how it preprocesses, or the image cannot be read.
    """
    from PIL import Image

    if not isinstance(image, (str, Path, Image.Image)):
        raise HeadscanError(f"an image is a path, a PIL image or a tensor, not {type(image).__qualname__}")
    picture = as_rgb(image) if isinstance(image, Image.Image) else read_picture(image)
    return preprocessing(model)(picture)


def preprocessing(model: Model) -> Callable[[Image], torch.Tensor]:
    """Return the model's own preprocessing: from a PIL image to pixels (3, height, width), float32.

    An open_clip module in memory that has no ``visual.preprocess_cfg`` gets open_clip's default, for its image size.

    Raises
    ------
    HeadscanError
        If the model does not say how it preprocesses.
    """
    check_model(model)
    module: Any = model.module
    if is_transformers(module):
        return _transformers_preprocessing(model)
    from open_clip.transform import PreprocessCfg, image_transform_v2

    if not hasattr(module.visual, "image_size"):
        raise HeadscanError(f"{model.name} does not say the size of its images: visual.image_size is expected")
    config = {"size": module.visual.image_size, **getattr(module.visual, "preprocess_cfg", {})}
    transform: Callable[[Image], torch.Tensor] = image_transform_v2(PreprocessCfg(**config), is_train=False)
    return transform


def _transformers_preprocessing(model: Model) -> Callable[[Image], torch.Tensor]:
    try:
        processor = image_processor(model.module.name_or_path)
    except (OSError, ValueError) as error:
        raise HeadscanError(
            f"{model.name} does not say how it preprocesses images: a preprocessor_config.json beside its weights is "
            f"expected ({one_line(str(error))})"
        ) from error

    def prepare(picture: Image) -> torch.Tensor:
        pixels: torch.Tensor = processor(images=picture.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        if pixels.ndim != 3:
            raise HeadscanError(f"{model.name} takes pictures as lists of patches, and only whole ones are prepared")
        return pixels

    return prepare


def prepared(
    model: Model, images: NDArray[np.uint8] | torch.Tensor | Sequence[str | Path], *, batch_size: int
) -> Iterator[torch.Tensor]:
    """Give pictures, (n, height, width, 3) or paths, as a model expects them: batches (b, 3, height, width).

    Raises
    ------
    HeadscanError
        If there are none, they are of another kind, or one cannot be read.
    """
    import torch
    from PIL.Image import fromarray as picture_of

    batch_size = whole_number(batch_size, "batch_size", least=1)
    read: Callable[[Any], Image] = read_picture
    if isinstance(images, (np.ndarray, torch.Tensor)):
        if str(images.dtype) not in ("uint8", "torch.uint8") or images.ndim != 4 or images.shape[3] != 3:
            raise HeadscanError(
                f"pictures must be uint8 of shape (n, height, width, 3) or paths, got {images.dtype} {images.shape}"
            )
        images, read = images if isinstance(images, np.ndarray) else images.cpu().numpy(), picture_of
    elif isinstance(images, str) or not isinstance(images, Sized):
        raise HeadscanError(
            f"pictures are an array or a list of paths, not {images!r:.80}: those of a folder are listed by "
            "headscan.models.pictures.read_folder(folder).paths, those of an iterator by list()"
        )
    if len(images) == 0:
        raise HeadscanError("there are no pictures to embed")
    prepare = preprocessing(model)
    for start in range(0, len(images), batch_size):
        yield torch.stack([prepare(read(image)) for image in images[start : start + batch_size]])


def embed_pixels(model: Model, pixels: torch.Tensor) -> NDArray[np.float64]:
    """Return unit embeddings (n, joint_dim) of prepared pictures (n, 3, height, width); dropout is off meanwhile.

    Raises
    ------
    HeadscanError
        If the model embeds one as NaN or infinity.
    """
    import torch

    module: Any = model.module
    first = next(module.parameters())
    batch = pixels.to(first.device, first.dtype)
    with evaluating(module), torch.inference_mode():
        embedded = embed_preprocessed(module, batch)
    if not embedded.isfinite().all():
        raise HeadscanError("the model embeds pictures as NaN or infinity: check its weights, or load it in float32")
    return normalise(embedded.double().cpu().numpy())


def pictures_in(folder: Path) -> list[Path]:
    """Return the picture files of a folder and the folders in it, sorted; by their suffixes, hidden ones left out."""
    return sorted(path for path in _files_in(folder) if path.suffix.lower() in PICTURE_SUFFIXES)


def _files_in(folder: Path) -> Iterator[Path]:
    """Yield files whose names do not begin with a dot: those of macOS beside its pictures are none."""
    return (path for path in folder.rglob("*") if path.name[0] != "." and path.is_file())


def embed_images(model: Model, images: Any, *, batch_size: int = 128) -> NDArray[np.float64]:
    """Embed pictures with the model's own preprocessing.

    Parameters
    ----------
    model : Model
    images : array or tensor of uint8, shape (n, height, width, 3), or sequence of paths
        RGB pictures.
    batch_size : int, default 128

    Returns
    -------
    ndarray of float64, shape (n, joint_dim)
        Unit rows.

    Raises
    ------
    HeadscanError
        If the pictures are of another kind, the model embeds one as NaN, or some cannot be read: all of them are
        named before any work is done.
    """
    if isinstance(images, Sequence) and not isinstance(images, str):
        _, reasons = readable_pictures(images)
        if reasons:
            raise HeadscanError(
                f"{len(reasons):,} of {len(images):,} pictures cannot be read: {'; '.join(reasons)}; leave them out "
                "(headscan.models.pictures.readable_pictures)"
            )
    return np.concatenate([embed_pixels(model, pixels) for pixels in prepared(model, images, batch_size=batch_size)])
