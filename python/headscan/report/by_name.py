"""The page of a saved scan, with pictures of a model by name: what a command or a batch job calls once."""

from __future__ import annotations

from pathlib import Path

from headscan.errors import HeadscanError
from headscan.explanations.result import Scan, load_scan, page_head
from headscan.models.load import load_model
from headscan.report.ground import ground

__all__ = ["report_by_name"]


def check_page(path: Path) -> None:
    """Raise unless a page may be written to a path: nothing is there, or a page that headscan wrote.

    Raises
    ------
    HeadscanError
        If something else is there.
    """
    if path.exists() and page_head(path) is None:
        raise HeadscanError(
            f"{path} exists and is no page of headscan's: choose another file, or write over it (--force)"
        )


def report_by_name(
    folder: Path,
    *,
    page: Path | None = None,
    images: Path | None = None,
    count: int = 6,
    model: str | None = None,
    pretrained: str | None = None,
    device: str | None = None,
    force: bool = False,
) -> tuple[Scan, Path]:
    """Write a saved scan as a page, by default beside it, and return the scan and the page's path.

    Parameters
    ----------
    folder : path
        Of the scan.
    images, count
        Folder of pictures and how many a pole, as in `headscan.ground`.
    model, pretrained, device
        The model that was scanned, where the scan's own name for it does not load here, and where it runs.

    force : bool
        Write over a file at `page` that headscan did not write.

    Raises
    ------
    HeadscanError
        If something else is at `page`; as `load_scan`, `load_model`, `headscan.ground` and `Scan.report` do.
    """
    if page is not None and not force:
        check_page(page)
    scan = load_scan(folder)
    grounding = None
    if images is not None:
        name, weights = (scan.info.model, scan.info.pretrained) if model is None else (model, pretrained)
        grounding = ground(scan, load_model(name, pretrained=weights, device=device), images=images, count=count)
    return scan, scan.report(page or folder / "report.html", grounding=grounding)
