r"""Rebuild the packed cut-outs that the demo world pastes, from public packages.

Fetch and unpack first, with the registries' own clients::

    mkdir npm && cd npm
    for package in @iconify-json/noto @iconify-json/twemoji @iconify-json/fluent-emoji \
        @iconify-json/fluent-emoji-flat @iconify-json/emojione @iconify-json/noto-v1 @iconify-json/fxemoji \
        @iconify-json/streamline-emojis @iconify-json/fluent-emoji-high-contrast unicode-emoji-json emojilib; do
      npm pack "$package"
    done
    for archive in *.tgz; do mkdir -p "${archive%.tgz}" && tar -xzf "$archive" -C "${archive%.tgz}"; done
    cd .. && apt-get download openclipart-svg openclipart-png
    for archive in openclipart-*.deb; do dpkg -x "$archive" debian; done

then, with numpy, pillow and resvg-py installed::

    python pack_images.py --npm npm --openclipart debian/usr/share/openclipart --out images

Writes ``emoji.npz`` and ``clipart.npz`` (key ``images``: (n, 64, 64, 4) uint8 RGBA), each with a ``.jsonl``
of one record a picture. Licences: noto, noto-v1 and fxemoji Apache-2.0; fluent-emoji (also flat and high
contrast) MIT; twemoji, emojione and streamline-emojis CC-BY-4.0; openclipart public domain;
unicode-emoji-json and emojilib MIT.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 64
EMOJI_STYLES = (
    "noto", "twemoji", "fluent-emoji", "fluent-emoji-flat", "emojione",
    "noto-v1", "fxemoji", "streamline-emojis", "fluent-emoji-high-contrast",
)  # fmt: skip
SKIPPED_EMOJI = {("streamline-emojis", "turkey")}  # the country's flag
SKIPPED_CLIPART = (
    "computer/icons", "computer/buttons", "buttons", "shapes/stars", "special/gradients", "special/patterns",
    "recreation/games/cards", "signs_and_symbols/led",
)  # fmt: skip
_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'viewBox="0 0 {width} {height}" width="{side}" height="{side}">{body}</svg>'
)

Record = dict[str, Any]
Pair = tuple[Record, np.ndarray]


def fitted(image: Image.Image) -> np.ndarray | None:
    """Shrink into a centred 64 x 64 RGBA square; None for a picture that is empty or of one colour."""
    image = image.convert("RGBA")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SIDE, SIDE))
    square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    values = np.asarray(square)
    return values if values[..., 3].any() and values.std() > 2 else None


def drawn(svg: str) -> np.ndarray | None:
    """Render an SVG text; None where it cannot be rendered."""
    import resvg_py

    try:
        return fitted(Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))))
    except (ValueError, OSError):
        return None


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileNotFoundError(f"expected {pattern} under {folder}, found nothing: was the package unpacked there?")
    return found[0]


def emoji(npm: Path) -> Iterator[Pair]:
    """Yield every emoji of every style whose slug the Unicode table knows."""
    table = json.loads(_one(npm, "unicode-emoji-json-*/package/data-by-emoji.json").read_text(encoding="utf-8"))
    words = json.loads(_one(npm, "emojilib-*/package/dist/emoji-en-US.json").read_text(encoding="utf-8"))
    known = {entry["slug"].replace("_", "-"): (sign, entry) for sign, entry in table.items()}
    for style in EMOJI_STYLES:
        icons = json.loads(_one(npm, f"iconify-json-{style}-[0-9]*/package/icons.json").read_text(encoding="utf-8"))
        for slug, icon in icons["icons"].items():
            if slug not in known or (style, slug) in SKIPPED_EMOJI:
                continue
            size = {side: icon.get(side, icons.get(side, 16)) for side in ("width", "height")}
            picture = drawn(_SVG.format(body=icon["body"], side=SIDE, **size))
            if picture is not None:
                sign, entry = known[slug]
                keywords = [word.replace("_", " ") for word in words.get(sign, [])]
                record = {"style": style, "slug": slug, "name": entry["name"], "group": entry["group"]}
                yield record | {"keywords": keywords}, picture


def clipart(root: Path) -> Iterator[Pair]:
    """Yield every clip-art that has a rendered twin, with the title and keywords of its SVG."""
    for path in sorted((root / "svg").rglob("*.svg")):
        place = path.relative_to(root / "svg")
        twin = (root / "png" / place).with_suffix(".png")
        if place.as_posix().startswith(SKIPPED_CLIPART) or not twin.exists():
            continue
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).decode("utf-8", "replace")
        title = re.search(r"<dc:title>\s*([^<]+?)\s*</dc:title>", text)
        keywords = [
            word for word in re.findall(r"<rdf:li>\s*([^<]+?)\s*</rdf:li>", text) if word not in ("hash", "unsorted")
        ]
        name = title.group(1) if title else re.sub(r"[_-]?\d+$", "", path.stem).replace("_", " ")
        try:
            picture = fitted(Image.open(twin))
        except OSError:
            continue
        if picture is not None:
            record = {"path": place.as_posix(), "name": name, "group": place.parent.as_posix()}
            yield record | {"keywords": keywords}, picture


def pack(pairs: Iterable[Pair], out: Path, stem: str) -> None:
    """Write one .npz and its .jsonl."""
    records, pictures = zip(*pairs, strict=True)
    np.savez_compressed(out / f"{stem}.npz", images=np.stack(pictures))
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    (out / f"{stem}.jsonl").write_text("".join(lines), encoding="utf-8")


def main() -> None:
    """Pack both collections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("npm", "openclipart", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pack(emoji(args.npm), args.out, "emoji")
    pack(clipart(args.openclipart), args.out, "clipart")


if __name__ == "__main__":
    main()
