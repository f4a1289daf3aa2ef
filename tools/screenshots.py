"""The report's screenshots in docs/, taken with a headless Chromium: python tools/screenshots.py out [--images DIR].

`out` is a scan of both sides (``make scan``), DIR a folder of pictures for the head's page. The type in the pictures
is Inter where it is installed (Debian: fonts-inter).
"""

import argparse
import io
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from PIL import Image

import headscan as hs
from browser import chromium

DESKTOP, PHONE = {"width": 1360, "height": 860}, {"width": 390, "height": 780}
SHOTS = (  # name, address, window, colours
    ("report-map", "", DESKTOP, "light"),
    ("report-head", "#L{layer}.H{head}/{index}/{side}/{pole}", DESKTOP, "dark"),
    ("report-phone", "#L{layer}.H{head}", PHONE, "light"),
)


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs")
    options = parser.parse_args()
    scan = hs.load_scan(options.scan)
    grounding = None
    if options.images:
        model = hs.load_model(scan.info.model, pretrained=scan.info.pretrained)
        grounding = hs.ground(scan, model, images=options.images)
    table = scan.table().query("side == 'write'")
    best = table.loc[(table["sigma"] * table["fidelity"]).idxmax()]
    options.docs.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        report = scan.report(Path(folder) / "report.html", grounding=grounding)
        for name, address, window, colours in SHOTS:
            page = browser.new_page(viewport=window, color_scheme=colours)
            page.goto(f"{report.as_uri()}{address.format(**best)}")
            shot = Image.open(io.BytesIO(page.screenshot()))
            shot.convert("RGB").save(options.docs / f"{name}.webp", quality=88, method=6)
            page.close()


if __name__ == "__main__":
    main()
