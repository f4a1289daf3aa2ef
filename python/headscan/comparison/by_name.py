"""Compare two models by name: what a command or a batch job calls once."""

from __future__ import annotations

from pathlib import Path

from headscan.common import files
from headscan.comparison.compare import compare
from headscan.comparison.result import FOLDER, Comparison, check_figure
from headscan.dictionaries.by_name import Sources
from headscan.explanations.null import RANDOM_DIRECTIONS
from headscan.heads.layers import select_layers
from headscan.models.adapters import is_adapter, load_adapter
from headscan.models.load import load_model

__all__ = ["compare_by_name"]


def compare_by_name(
    sources: Sources,
    tuned: str,
    *,
    pretrained: str | None = None,
    layers: str = "all",
    count: int = 4,
    k: int = 5,
    coherence: float = 0.3,
    significance: int = RANDOM_DIRECTIONS,
    folder: Path | None = None,
    figure: Path | None = None,
    force: bool = False,
) -> Comparison:
    """Compare the model of `sources` with a tuned one, or an adapter's folder; options as in `headscan.compare`.

    Parameters
    ----------
    tuned, pretrained : str
        The tuned model and its weights, as in `load_model`, or the folder of an adapter.
    folder, figure : path, optional
        Where the comparison, and its picture, are saved.
    force : bool
        Replace a comparison of other models in the folder.

    Raises
    ------
    HeadscanError
        As `load_model`, `load_adapter`, `headscan.compare` and `Comparison.save` do.
    """
    if folder is not None:
        FOLDER.check_destination(folder)
    if figure is not None:
        files.check_writable(figure.parent)
        check_figure(figure)
    sources.check()
    base = sources.load_model()
    select_layers(layers, count=base.layers)  # before the second model is loaded
    other = load_adapter(tuned) if is_adapter(tuned) else load_model(tuned, pretrained=pretrained)
    dictionary = sources.load_dictionary(base, at_least=k)
    comparison = compare(
        base, other, dictionary=dictionary, layers=layers, count=count, k=k, coherence=coherence,
        significance=significance, threads=sources.threads,
    )  # fmt: skip
    if figure is not None:
        with files.write_aside(figure) as aside:
            comparison.figure().savefig(aside, format=figure.suffix.lstrip("."))
    if folder is not None:
        comparison.save(folder, force=force)
    return comparison
