"""One self-contained page: the package's HTML, CSS and JavaScript around chunks of data.

Data stand in ``<script type="application/json">`` elements, which a browser keeps as text until the page's own
script asks for one: opening does not depend on how much there is. The page's content security policy admits
its own style and script, by hash, images in data URIs, and nothing from anywhere else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headscan.common import files
from headscan.errors import HeadscanError
from headscan.report.columns import chunk_grounding, chunk_scan
from headscan.report.summary import CHANCE, chance_column, summarise

if TYPE_CHECKING:
    from headscan.explanations.result import Scan
    from headscan.report.ground import Grounding

__all__ = ["write_report"]

_SCRIPTS = ("data.js", "dom.js", "map.js", "head.js", "find.js", "app.js")


def write_report(scan: Scan, path: str | Path, *, grounding: Grounding | None = None) -> Path:
    """Write a scan as one HTML file that opens offline, and return its path.

    The page shows what heads read and write: of a scan with several parts, the value-output directions.

    Parameters
    ----------
    scan : Scan
        From `headscan.scan` or `headscan.load_scan`, with at least one explanation.
    path : str or path
        The file; its folder must exist. It is written aside and renamed.
    grounding : Grounding, optional
        Images of the scan's directions, from `headscan.ground`.

    Raises
    ------
    HeadscanError
        If the scan has no value-output directions, the images are those of another scan, or the file cannot be
        written.
    """
    target = files.expanded(path)
    scan = replace(scan, explanations=scan.rows(part="vo"))
    if len(scan) == 0:
        raise HeadscanError("the scan has no explanations of value-output directions: there is nothing to report")
    if grounding is not None and grounding.weights_hash != scan.info.weights_hash:
        raise HeadscanError("the images were found with other weights than the scan's: ground this scan")
    page = _fill(_template(), _chunks(scan, grounding), title=f"{scan.info.model} · headscan", mark=scan.info.mark)
    try:
        files.sweep(target)
        with files.write_aside(target) as aside:
            aside.write_text(page, encoding="utf-8")
    except OSError as error:
        raise HeadscanError(f"cannot write the report to {target}: {error.strerror or error}") from error
    return target


def _chunks(scan: Scan, grounding: Grounding | None) -> dict[str, Any]:
    table = scan.explanations
    floats = [str(name) for name, kind in table.dtypes.items() if kind.kind == "f"]
    measures = [name for name in floats if name != "sigma" and not name.startswith("coefficient_")]
    chance = chance_column(table)
    scan_chunk = {
        "info": asdict(scan.info),
        "fidelity": scan.info.fidelity_definition,
        "rows": len(scan),
        "k": scan.info.k,
        "layers": sorted({int(layer) for layer in table["layer"]}),
        "heads": int(table["head"].max()) + 1,
        "sides": [side for side in ("write", "read") if (table["side"] == side).any()],
        "poles": [pole for pole in ("+", "-") if (table["pole"] == pole).any()],
        "measures": measures,
        "most": {name: float(table[name].max()) for name in ("sigma", "fidelity")},
        "chance": chance,
        "better": None if chance is None else float((table[chance] < CHANCE).mean()),
        "grounded": [] if grounding is None else grounding.layers,
        "left_out": [] if grounding is None else grounding.left_out,
        "summary": summarise(table, k=scan.info.k),
    }
    rows = chunk_scan(table, k=scan.info.k, measures=measures)
    return {"scan": scan_chunk, **rows, **({} if grounding is None else chunk_grounding(grounding))}


def _template() -> dict[str, str]:
    folder = resources.files("headscan.report") / "page"
    parts = {name: (folder / name).read_text(encoding="utf-8") for name in ("page.html", "style.css", *_SCRIPTS)}
    script = "\n".join(parts[name] for name in _SCRIPTS)
    return {
        "page": parts["page.html"],
        "style": parts["style.css"],
        "script": f'"use strict";\n(() => {{\n{script}}})();\n',
    }


def _fill(template: dict[str, str], chunks: dict[str, Any], *, title: str, mark: str) -> str:
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(template['style'])}'; "
        f"script-src '{_hash(template['script'])}'; base-uri 'none'; form-action 'none'"
    )
    data = "\n".join(
        f'<script type="application/json" id="{name}">{_json(content)}</script>' for name, content in chunks.items()
    )
    values = {
        "policy": policy,
        "version": html.escape(files.package_version()),
        "title": html.escape(title),
        "scan": mark,
        "style": template["style"],
        "script": template["script"],
        "data": data,
    }
    return re.sub(r"@(\w+)@", lambda match: values[match[1]], template["page"])


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


def _json(content: Any) -> str:
    """Return JSON without a ``<``: no text can close the element it stands in, or open another."""
    return json.dumps(files.finite(content), ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace(
        "<", "\\u003c"
    )
