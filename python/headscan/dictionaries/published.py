"""Dictionaries of the published code (arXiv 2603.24653): a tensor of text embeddings, and its list of texts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headscan.common import files
from headscan.common.reading import read_text
from headscan.dictionaries.dictionary import Dictionary
from headscan.dictionaries.rows import centre
from headscan.errors import HeadscanError
from headscan.models.model import Model, check_model
from headscan.models.published import read_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["load_published_dictionary"]

_log = logging.getLogger(__name__)
_PROBED, _CLOSE = 16, 0.999


def load_published_dictionary(
    embeddings: str | Path, *, texts: str | Path | None = None, model: Model
) -> tuple[Dictionary, NDArray[np.int64]]:
    """Read an encoded dictionary as the published code saves it.

    Parameters
    ----------
    embeddings : path
        ``NAME.pt``: one tensor (n, joint_dim), not normalised.
    texts : path, optional
        Its list, one text a line, n lines. By default ``NAME.txt`` beside it, or in ``dictionaries/`` of a folder
        above it, where the published scripts keep it.
    model : Model
        The model that encoded it: some of the texts are encoded again to be sure.

    Returns
    -------
    dictionary : Dictionary
        Blank lines and repeated texts are dropped; the mean is that of what is left.
    rows : ndarray of int64, shape (n,)
        Each published row's row in the dictionary, that of the text's first line where it is repeated, -1 where the
        line is blank.

    Raises
    ------
    HeadscanError
        If the files do not belong together, or were not encoded by this model.
    """
    check_model(model)
    path = files.expanded(embeddings)
    values = np.asarray(read_tensor(path, "the published dictionary", ndim=2), dtype=np.float32)
    source = _texts_of(path) if texts is None else files.expanded(texts)
    lines = read_text(source, "the list of texts").splitlines()
    if len(lines) != len(values) or values.shape[1] != model.joint_dim:
        raise HeadscanError(
            f"{path} holds embeddings {values.shape}, but {source} has {len(lines):,} lines and {model.name} a joint "
            f"space of {model.joint_dim}: they do not belong together"
        )
    first: dict[str, int] = {}
    kept: list[int] = []
    rows = np.full(len(lines), -1, dtype=np.int64)
    for row, line in enumerate(lines):
        if line.strip():
            if line not in first:
                first[line] = len(kept)
                kept.append(row)
            rows[row] = first[line]
    blank = int((rows < 0).sum())
    repeated = len(lines) - blank - len(kept)
    if blank or repeated:
        _log.warning(
            "%s: %d blank and %d repeated lines are dropped, so rows are numbered anew", source, blank, repeated
        )
    atoms = np.ascontiguousarray(values[kept])
    _check_encoder(model, [lines[row] for row in kept], atoms, path)
    mean = centre(atoms)
    dictionary = Dictionary(
        texts=tuple(first), atoms=atoms, mean=mean, source=path.name, templates=("{}",), text_hash=model.text_hash,
        blank=blank, repeated=repeated, history=(f"read from {path.name}, encoded by the published code",),
    )  # fmt: skip
    return dictionary, rows


def _texts_of(path: Path) -> Path:
    name = path.with_suffix(".txt").name
    candidates = [path.with_name(name), *(folder / "dictionaries" / name for folder in path.absolute().parents)]
    existing = next((candidate for candidate in candidates if candidate.is_file()), None)
    if existing is None:
        raise HeadscanError(f"there is no list {name} of the texts in {path}: give it with texts=")
    return existing


def _check_encoder(model: Model, texts: list[str], embeddings: NDArray[np.float32], path: Path) -> None:
    some = np.linspace(0, len(texts) - 1, min(_PROBED, len(texts))).astype(int)
    own = np.asarray(model.encode_text([texts[row] for row in some]), dtype=np.float64)
    other = embeddings[some].astype(np.float64)
    lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(other, axis=1)
    cosines = np.einsum("ne,ne->n", own, other) / np.maximum(lengths, 1e-30)
    if not cosines.min() > _CLOSE:
        worst = int(cosines.argmin())
        raise HeadscanError(
            f"{path} was not encoded by {model.name}: the embedding of {texts[some[worst]]!r} has a cosine of "
            f"{cosines[worst]:.3f} with the model's own"
        )
