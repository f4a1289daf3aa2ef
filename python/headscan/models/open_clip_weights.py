"""Open a checkpoint as a model of open_clip: at the file's own sizes, left in the file, nothing interpolated."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headscan.errors import HeadscanError
from headscan.models.configurations import never_asking
from headscan.models.state_dicts import names_in, under_names
from headscan.models.tensor_files import TensorFiles, check_finite, open_tensors
from headscan.models.towers.weights import Weights, empty_parameters

__all__ = ["open_weights", "tokenizer_for"]

_log = logging.getLogger(__name__)
_BIG_VISION = (".npz", ".npy")
_APPLE = "image_encoder.model."  # in the names of MobileCLIP's own checkpoints
_TEXT = "text."
_CONTEXT = ("positional_embedding", "text.positional_embedding")
_IMAGE = {"visual.positional_embedding": 0, "visual.trunk.pos_embed": 1}  # and which axis counts the tokens


def open_weights(
    identifier: str, checkpoint: Path, *, device: str, config: Mapping[str, Any], **options: Any
) -> tuple[Weights, dict[str, Any]]:
    """Return a checkpoint's weights as those of an open_clip model, and the model's configuration as it was built.

    The text context and the image size are the checkpoint's, whatever the configuration says.

    Parameters
    ----------
    identifier : str
        An architecture, or ``local-dir:`` and a folder.
    checkpoint : Path
    device : str
    config : mapping
        The model's configuration.
    **options
        Of ``open_clip.create_model``.

    Raises
    ------
    HeadscanError
        If the file is not of that model, or quantised.
    """
    import open_clip

    if checkpoint.suffix in _BIG_VISION:  # open_clip's own conversion, which refuses other numbers of positions
        with never_asking():
            module = open_clip.create_model(identifier, device=device, require_pretrained=True, **options).eval()
        for name, tensor in module.state_dict().items():
            check_finite(name, tensor)
        return Weights(module), dict(config)
    tensors = open_tensors([checkpoint])
    if tensors.quick_gelu:
        options["force_quick_gelu"] = True
    skeleton = _skeleton(identifier, options)
    tensors = _in_layout_of(skeleton, tensors)
    sizes = _other_sizes(skeleton, tensors)
    if sizes:
        _log.warning("%s: built with %s, as the file has it", checkpoint, _in_words(sizes))
        skeleton = _skeleton(identifier, {**options, **sizes})
    fitted = under_names(tensors, skeleton.state_dict(), identifier)
    return Weights(skeleton, fitted, device=device), _as_built(config, {**options, **sizes})


def _skeleton(identifier: str, options: Mapping[str, Any]) -> Any:
    import open_clip

    with empty_parameters(), _without_remarks(), never_asking():
        return open_clip.create_model(identifier, load_weights=False, pretrained_text=False, **options).eval()


def _in_layout_of(skeleton: Any, tensors: TensorFiles) -> TensorFiles:
    """Return a file's tensors in open_clip's layout: Apple's converted, text parts where the model has them."""
    from open_clip.convert import convert_state_dict

    if any(_APPLE in name for name in tensors.shapes):
        state = {name: tensors.read(name) for name in tensors.shapes}
        return TensorFiles.of(tensors.source, convert_state_dict(skeleton, state))
    wanted = skeleton.state_dict()
    text = next((name for name in wanted if name.startswith(_TEXT)), None)
    if text is None or text in names_in(tensors, wanted):
        return tensors
    plain = {name.removeprefix(_TEXT): name for name in wanted}
    stored = {plain[name]: old for name, old in names_in(tensors, plain).items()}
    if text not in stored:
        return tensors
    others = {name: name for name in tensors.shapes.keys() - set(stored.values()) - stored.keys()}
    return tensors.renamed({**others, **stored}, {})


def _other_sizes(skeleton: Any, tensors: TensorFiles) -> dict[str, int]:
    """Return the context length and the image size of a file where they are not those of the model."""
    wanted = skeleton.state_dict()
    names = names_in(tensors, wanted)
    sizes: dict[str, int] = {}
    for name in _CONTEXT:
        more = tensors.shapes[names[name]][0] - wanted[name].shape[0] if name in names else 0
        if more:
            sizes["force_context_length"] = int(skeleton.context_length) + more
    for name, axis in _IMAGE.items():
        shape = tensors.shapes[names[name]] if name in names else ()
        more = shape[axis] - wanted[name].shape[axis] if len(shape) > axis else 0
        if more:
            sizes["force_image_size"] = _image_size(
                skeleton.visual, more, f"{tensors.source} holds {name} of {shape}"
            )
    return sizes


def _image_size(visual: Any, more: int, where: str) -> int:
    """Return the size of square pictures that have so many patches more than the model's."""
    parts = visual if hasattr(visual, "grid_size") else visual.trunk.patch_embed
    rows, columns = parts.grid_size
    patches = rows * columns + more
    side = math.isqrt(max(patches, 0))
    if side == 0 or side * side != patches:
        raise HeadscanError(
            f"{where}: {patches} patches make no square picture, and the model takes {rows} x {columns}"
        )
    return int(side * parts.patch_size[0])


def _in_words(sizes: Mapping[str, int]) -> str:
    return " and ".join(f"{name.removeprefix('force_').replace('_', ' ')} {size}" for name, size in sizes.items())


def _as_built(config: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    built: dict[str, Any] = copy.deepcopy(dict(config))
    if "force_image_size" in options:
        built["vision_cfg"]["image_size"] = options["force_image_size"]
    if "force_context_length" in options:
        built["text_cfg"]["context_length"] = options["force_context_length"]
    if options.get("force_quick_gelu"):
        built["quick_gelu"] = True
    return built


def tokenizer_for(identifier: str, config: Mapping[str, Any], *, named: bool) -> Any:
    """Return the tokenizer of an open_clip model; no code of a tokenizer's folder is ever run.

    Parameters
    ----------
    identifier : str
        An architecture, or ``local-dir:`` and a folder.
    config : mapping
        The model's configuration as it was built.
    named : bool
        Whether a tokenizer that the configuration names is the hub's, and not in the folder.
    """
    import open_clip
    from open_clip.tokenizer import HFTokenizer

    text = config.get("text_cfg", {})
    context = text.get("context_length")
    name = text.get("hf_tokenizer_name")
    if not name:
        return open_clip.get_tokenizer(identifier, context_length=context)
    with never_asking():
        if named:
            options = {"context_length": context or 77, "tokenizer_mode": text.get("tokenizer_mode")}
            return HFTokenizer(name, **options, **text.get("tokenizer_kwargs", {}), trust_remote_code=False)
        return open_clip.get_tokenizer(identifier, context_length=context, trust_remote_code=False)


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Keep open_clip, which logs to the root logger, from remarking that a skeleton has no weights."""
    root, drop = logging.getLogger(), lambda record: False
    root.addFilter(drop)
    try:
        yield
    finally:
        root.removeFilter(drop)
