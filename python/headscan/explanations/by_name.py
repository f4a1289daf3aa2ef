"""Scan, explain and find with models, dictionaries and folders by name: what a command or a batch job calls once.

Whatever can be refused without a model is refused before one is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headscan.common import files
from headscan.common.reading import regular
from headscan.dictionaries.by_name import Sources
from headscan.errors import HeadscanError
from headscan.explanations.explain import EmbeddingExplanation, explain, written_in_words
from headscan.explanations.null import RANDOM_DIRECTIONS
from headscan.explanations.result import Scan, check_destination, is_scan, load_scan
from headscan.explanations.scan import scan
from headscan.explanations.table import dictionary_facts, model_facts
from headscan.heads.layers import select_layers

if TYPE_CHECKING:
    import pandas as pd

    from headscan.dictionaries.load import Dictionary
    from headscan.models.model import Model

__all__ = ["ScanRun", "explain_by_name", "find_by_name", "scan_by_name"]


@dataclass(frozen=True, eq=False)
class ScanRun:
    """A scan, what it was made with, and the folder that holds it."""

    scan: Scan
    model: Model
    dictionary: Dictionary
    folder: Path


def scan_by_name(
    sources: Sources,
    folder: str | Path,
    *,
    tower: str = "image",
    parts: str | Sequence[str] = ("vo",),
    layers: str = "all",
    sides: str | Sequence[str] = ("write",),
    poles: str = "both",
    k: int = 5,
    coherence: float = 0.3,
    method: str = "comp",
    fold: bool = True,
    significance: int = RANDOM_DIRECTIONS,
    force: bool = False,
) -> ScanRun:
    """Scan a model by name and save the scan in a folder; options as in `headscan.scan`.

    A scan of other parameters in the folder is refused before the work, unless `force` says to replace it.

    Raises
    ------
    HeadscanError
        As `load_model`, `load_dictionary`, `headscan.scan` and `Scan.save` do.
    """
    target = files.expanded(folder)
    weight = coherence if method == "comp" else 0.0  # as the manifest has it
    known = {"tower": tower, "k": k, "method": method, "coherence": weight, "folded": fold}
    known["significance"] = significance
    check_destination(target, known, force=force)
    sources.check()
    model = sources.load_model()
    check_destination(target, model_facts(model), force=force)
    select_layers(layers, count=model.get_tower(tower).layers, tower=tower)  # before the dictionary is encoded
    dictionary = sources.load_dictionary(model, at_least=k)
    check_destination(target, dictionary_facts(dictionary, model), force=force)
    result = scan(
        model, dictionary, tower=tower, parts=parts, layers=layers, sides=sides, poles=poles, k=k,
        coherence=coherence, method=method, fold=fold, significance=significance,
        threads=sources.threads, device=sources.cuda,
    )  # fmt: skip
    return ScanRun(result, model, dictionary, result.save(target, force=force))


def explain_by_name(
    sources: Sources,
    *,
    image: Path | None = None,
    text: str | None = None,
    vector: Path | None = None,
    k: int = 5,
    coherence: float = 0.3,
    directions: int = 10,
) -> tuple[EmbeddingExplanation, pd.DataFrame | None]:
    """Explain an image, a text or a vector with a model by name; options as in `headscan.explain`.

    Parameters
    ----------
    directions : int, default 10
        Of an image also the directions that wrote most of it, so many at most.

    Returns
    -------
    EmbeddingExplanation
    pandas.DataFrame or None
        As `written_in_words` gives it; None of a text or a vector, or where none are asked for.

    Raises
    ------
    HeadscanError
        As `load_model`, `load_dictionary` and `headscan.explain` do.
    """
    for path, what in ((image, "the picture"), (vector, "the vector file")):
        if path is not None:
            regular(path, what)
    sources.check()
    model = sources.load_model()
    dictionary = sources.load_dictionary(model, at_least=k)
    code: dict[str, Any] = {"k": k, "coherence": coherence, "threads": sources.threads}
    explanation = explain(model, dictionary, image=image, text=text, vector=vector, **code)
    if explanation.contributions is None or not directions:
        return explanation, None
    return explanation, written_in_words(explanation.contributions, model, dictionary, count=directions, **code)


def find_by_name(
    text: str,
    folder: str | Path,
    *,
    model: str | None = None,
    pretrained: str | None = None,
    words: bool = False,
    count: int = 10,
    layers: str = "all",
    side: str | None = None,
    pole: str | None = None,
) -> pd.DataFrame:
    """Return the directions of a saved scan that are about a text; options as in `Scan.find`.

    Parameters
    ----------
    model, pretrained : str, optional
        The scan's model, where the scan's own name for it does not load here.
    words : bool
        Match words, without a model.

    Raises
    ------
    HeadscanError
        As `load_scan`, `load_model` and `Scan.find` do.
    """
    source = files.expanded(folder)
    if not source.is_dir() and is_scan(Path(text)):
        raise HeadscanError(
            f"there is no scan folder {folder}, but {text} is one: the text comes first, then the scan"
        )
    scanned = load_scan(source)
    chosen = select_layers(layers, count=max(scanned.info.layers) + 1)
    loaded = None if words else _model_of(scanned, model, pretrained)
    return scanned.find(text, model=loaded, count=count, layers=chosen, side=side, pole=pole)


def _model_of(scanned: Scan, model: str | None, pretrained: str | None) -> Model:
    own = model is None
    named = Sources(
        model=scanned.info.model if model is None else model,
        pretrained=scanned.info.pretrained if own else pretrained,
    )
    try:
        return named.load_model()
    except HeadscanError as error:
        raise HeadscanError(f"{error}; --words finds without a model, --model names another source") from error
