"""Contributions: an image's embedding split exactly into what each head, direction and layer wrote.

With the last layer norm's statistics as they were for this image, the embedding is linear in everything that was
added to the pooled token: the start (patches, class token, positions), every head, every MLP and the biases. A
head's part splits further along the singular directions of its W_VO.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.core.svd import svd_factored
from headscan.errors import HeadscanError
from headscan.heads.factors import vo_factors
from headscan.models.model import check_model
from headscan.models.towers.forward import LayerPass, check_traceable, pooled_tokens, trace

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from numpy.typing import NDArray

    from headscan.models.model import Model

__all__ = ["Contributions", "contributions"]

_CLOSE = 1e-3  # relative: float32 forward passes of large towers stay well below it, a missing part does not


@dataclass(frozen=True, eq=False)
class Contributions:
    """An image's embedding as a sum of parts, each float64 in the joint space, none normalised.

    Attributes
    ----------
    embedding : ndarray, shape (joint_dim,)
        The model's own, which the parts sum to up to the rounding of its forward pass.
    coefficients : ndarray, shape (layers, heads, rank)
        How much of each write direction reached the last layer norm's output before its gain: positive at the pole
        `+` of the scan, negative at `-`.
    directions : ndarray, shape (layers, heads, rank, joint_dim)
        What each direction wrote.
    head_biases : ndarray, shape (layers, heads, joint_dim)
        What each head wrote whatever it read.
    attention_biases, mlps : ndarray, shape (layers, joint_dim)
        The output projection's bias, and the MLP, of each layer.
    start, shift : ndarray, shape (joint_dim,)
        What entered the first layer, and the last layer norm's shift.
    """

    embedding: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    directions: NDArray[np.float64]
    head_biases: NDArray[np.float64]
    attention_biases: NDArray[np.float64]
    mlps: NDArray[np.float64]
    start: NDArray[np.float64]
    shift: NDArray[np.float64]

    @property
    def heads(self) -> NDArray[np.float64]:
        """What each head wrote, its bias included, (layers, heads, joint_dim)."""
        whole: NDArray[np.float64] = self.directions.sum(axis=2) + self.head_biases
        return whole

    def total(self) -> NDArray[np.float64]:
        """Return the sum of all parts, (joint_dim,)."""
        layers = self.heads.sum(axis=1) + self.attention_biases + self.mlps
        whole: NDArray[np.float64] = layers.sum(axis=0) + self.start + self.shift
        return whole

    def table(self, *, towards: NDArray[np.float64] | None = None) -> pd.DataFrame:
        """Return the parts as a table, the largest share first.

        Parameters
        ----------
        towards : ndarray, shape (joint_dim,), optional
            A vector of joint space, a concept's atom say; by default the embedding itself.

        Returns
        -------
        pandas.DataFrame
            Columns `part` ("direction", "head bias", "attention bias", "mlp", "start", "shift"), `layer`, `head`
            and `index` (-1 where a part has none), `pole`, `coefficient`, and `share`: the part's inner product
            with `towards` over the embedding's; the shares sum to 1.
        """
        import pandas as pd

        target = self.embedding if towards is None else np.asarray(towards, dtype=np.float64)
        whole = float(self.total() @ target)
        rows = pd.DataFrame([row for part in _PARTS for row in self._rows(part)], columns=_COLUMNS[:-1])
        values = np.concatenate([(getattr(self, field) @ target).ravel() for field in _PARTS.values()])
        rows["share"] = np.divide(values, whole, out=np.zeros_like(values), where=abs(whole) > 0)
        ordered: pd.DataFrame = rows.sort_values("share", ascending=False, kind="stable", ignore_index=True)
        return ordered

    def _rows(self, part: str) -> Iterator[tuple[Any, ...]]:
        shape = getattr(self, _PARTS[part]).shape[:-1]
        for position in np.ndindex(shape):
            layer, head, index = (*position, -1, -1, -1)[:3]
            coefficient = float(self.coefficients[position]) if part == "direction" else np.nan
            pole = "" if part != "direction" else "+" if coefficient >= 0 else "-"
            yield part, layer, head, index, pole, coefficient


_COLUMNS = ["part", "layer", "head", "index", "pole", "coefficient", "share"]
_PARTS = {
    "direction": "directions",
    "head bias": "head_biases",
    "attention bias": "attention_biases",
    "mlp": "mlps",
    "start": "start",
    "shift": "shift",
}


def contributions(model: Model, image: torch.Tensor, *, threads: int = 0) -> Contributions:
    """Split an image's embedding into what every part of the vision tower wrote.

    Parameters
    ----------
    model : Model
        From `load_model`; its vision tower is open_clip's own.
    image : torch.Tensor, shape (3, height, width)
        Preprocessed as the model expects, see `preprocess`.
    threads : int, default 0
        As in `svd_factored`.

    Returns
    -------
    Contributions

    Raises
    ------
    HeadscanError
        If the tower is of another kind, or does something that is not accounted for.
    """
    check_model(model)
    check_traceable(model.tower, pools=("tok", "avg"))
    traced = _trace(model, image)
    tower, final = model.tower, model.tower.read_final()
    tokens, pooling = pooled_tokens(tower, traced.end, eps=final.eps)  # which tokens count, and how much
    scale = pooling.numpy()

    def joint(written: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = written - written.mean(axis=-1, keepdims=True)
        mapped: NDArray[np.float64] = (centred * final.gain) @ final.projection
        return mapped

    shape = (tower.layers, tower.heads, tower.rank)
    coefficients, directions = np.empty(shape), np.empty((*shape, tower.joint_dim))
    head_biases, attention_biases = np.empty((*shape[:2], tower.joint_dim)), np.empty((shape[0], tower.joint_dim))
    for layer in range(tower.layers):
        factors = vo_factors(model, layers=[layer])
        u, sigma, vh = svd_factored(factors.left[0], factors.right[0], threads=threads)
        read = _read_by_heads(traced.layers[layer], tokens, pooling)
        coefficients[layer] = np.einsum("hd,hdr->hr", read, u) * sigma
        directions[layer] = coefficients[layer][..., None] * joint(vh)
        head_biases[layer] = joint(scale.sum() * factors.bias[0])
        attention_biases[layer] = joint(scale.sum() * tower.read_attention(layer).output_bias)
    result = Contributions(
        embedding=traced.embedding,
        coefficients=coefficients,
        directions=directions,
        head_biases=head_biases,
        attention_biases=attention_biases,
        mlps=np.stack([joint(scale @ values[tokens].numpy()) for values in traced.mlps]),
        start=joint(scale @ traced.layers[0].stream[0, tokens].numpy()),
        shift=final.shift @ final.projection,
    )
    gap = np.linalg.norm(result.total() - result.embedding) / np.linalg.norm(result.embedding)
    if not gap < _CLOSE:
        raise HeadscanError(f"{model.name} adds to its embedding what is not accounted for: the parts miss {gap:.1%}")
    return result


@dataclass(frozen=True, eq=False)
class _Trace:
    """One picture's forward pass, float64 on the CPU."""

    layers: list[LayerPass]
    mlps: list[torch.Tensor]  # what each MLP added, (tokens, width)
    end: torch.Tensor  # the stream after the last layer, (tokens, width)
    embedding: NDArray[np.float64]


def _trace(model: Model, image: torch.Tensor) -> _Trace:
    import torch

    if not isinstance(image, torch.Tensor) or image.ndim != 3 or not image.is_floating_point():
        raise HeadscanError("an image must be a preprocessed floating-point tensor (3, height, width)")
    layers: list[LayerPass] = []
    mlps: list[torch.Tensor] = []
    ends: list[torch.Tensor] = []
    embedding = trace(
        model.tower,
        image[None],
        lambda layer, passed: layers.append(LayerPass(passed.block, passed.stream.cpu())),
        layers=range(model.layers),
        dtype=torch.float64,
        watch_mlp=lambda added: mlps.append(added[0].cpu()),
        watch_end=lambda stream: ends.append(stream[0].cpu()),
    )
    return _Trace(layers, mlps, ends[0], embedding[0].cpu().double().numpy())


def _read_by_heads(layer: LayerPass, tokens: slice, scale: torch.Tensor) -> NDArray[np.float64]:
    """Return the normalised stream as each head gathers it for the pooled tokens, (heads, width)."""
    import torch

    with torch.inference_mode():
        gathered = torch.einsum("q,hqt,td->hd", scale, layer.shares(tokens)[0], layer.normed[0])
    return np.asarray(gathered.numpy())
