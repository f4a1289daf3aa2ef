"""Write WordNet 3.0's lemmas as a packaged vocabulary: UTF-8, one concept a line, gzipped.

Input: the folder holding WordNet 3.0's ``index.*`` and ``data.*`` files for nouns, verbs, adjectives and
adverbs (Debian's ``wordnet-base`` package has them).

Spelling: the index holds every lemma once, in lower case; the data files hold each as it is written in every
sense ("Eiffel_Tower"). Lemmas come from the data files, without adjective markers ("(a)", "(p)", "(ip)") and
with underscores as spaces; the two sets must agree, or nothing is written.
Duplicates: lemmas that differ only by case are one concept (CLIP's own tokenizer lowers case, so they would
be one atom twice). The spelling with the most senses is kept: "fall", not "Fall". On a tie the earlier in
code-point order is kept, which puts capitals first: "Exodus", not "exodus".
Order: by the lower-cased lemma, in code-point order, with spaces already in place of underscores.
Bytes: the gzip header carries neither a time nor a file name, so the same input and zlib give the same file.

    python tools/wordnet/make_wordnet.py WORDNET_FOLDER
"""

from __future__ import annotations

import argparse
import gzip
import io
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
ADJECTIVE_MARKER = re.compile(r"\((?:a|p|ip)\)$")
DEFAULT_OUT = Path(__file__).resolve().parents[2] / "python" / "headscan" / "data" / "wordnet.txt.gz"

logger = logging.getLogger("make_wordnet")


def records(path: Path) -> Iterator[list[str]]:
    """Yield the fields of each record; the licence at a file's head is indented by two spaces."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.startswith("  "):
                yield line.split()


def data_spellings(path: Path) -> Iterator[str]:
    """Yield every word of every record: offset, file, type, hex word count, (word, id) pairs, ..."""
    for fields in records(path):
        words = int(fields[3], 16)
        for word in fields[4 : 4 + 2 * words : 2]:
            yield ADJECTIVE_MARKER.sub("", word).replace("_", " ")


def commonest(counts: Counter[str]) -> str:
    """Return the spelling with the most senses, on a tie the first in code-point order."""
    return min(counts, key=lambda spelling: (-counts[spelling], spelling))


def read_lemmas(folder: Path) -> list[str]:
    """Return the distinct lemmas of a WordNet folder, spelled and ordered as the module says.

    Raises
    ------
    ValueError
        If the data files and the index files do not hold the same lemmas.
    """
    senses: defaultdict[str, Counter[str]] = defaultdict(Counter)  # lower-cased lemma -> spelling -> senses
    indexed: set[str] = set()
    for part in PARTS_OF_SPEECH:
        for spelling in data_spellings(folder / f"data.{part}"):
            senses[spelling.lower()][spelling] += 1
        indexed.update(fields[0].replace("_", " ") for fields in records(folder / f"index.{part}"))
    if unmatched := sorted(indexed ^ senses.keys()):
        raise ValueError(
            f"expected the same lemmas in index.* and data.*, but {len(unmatched)} are in one only, "
            f"first {unmatched[0]!r}: use the files of one WordNet release"
        )
    return [commonest(senses[key]) for key in sorted(senses)]


def gzip_bytes(content: bytes) -> bytes:
    """Compress with a header that depends on nothing but the format: no time, no name, system unknown."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as stream:
        stream.write(content)
    return buffer.getvalue()


def main() -> None:
    """Read the folder named on the command line and write the list."""
    parser = argparse.ArgumentParser(description="Write WordNet 3.0's lemmas as a packaged vocabulary.")
    parser.add_argument("folder", type=Path, help="folder holding WordNet 3.0's index.* and data.* files")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="gzip file to write (default: packaged)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        lemmas = read_lemmas(arguments.folder)
        compressed = gzip_bytes("".join(f"{lemma}\n" for lemma in lemmas).encode())
        arguments.out.write_bytes(compressed)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    logger.info("%s: %d lemmas, %d bytes", arguments.out.name, len(lemmas), len(compressed))


if __name__ == "__main__":
    main()
