"""Pages that live elsewhere in the repository join the site: result tables, the demo model's card, changes."""

import ast
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "demo-model.md": "python/headscan/data/demo/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changes.md": "CHANGELOG.md",
    "licences.md": "python/headscan/data/wordnet.LICENSE.txt",
}
LINKS = {"](docs/": "](", "](benchmarks/results/": "](results/", "](CHANGELOG.md)": "](changes.md)"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name every table of results in the navigation, after what is measured."""
    measured = next(section["Measured"] for section in config.nav or () if "Measured" in section)
    measured.append({"Results": [f"results/{path.name}" for path in _tables()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, with their links turned to the site's."""
    pages = dict(PAGES)
    pages |= {f"results/{path.name}": str(path.relative_to(ROOT)) for path in _tables()}
    for name, source in pages.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        for old, new in LINKS.items():
            text = text.replace(old, new)
        if source.endswith(".txt"):
            text = f"# Licence of WordNet\n\n```text\n{text}\n```\n"
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, "reference.md", content=_reference()))
    return files


def _tables() -> list[Path]:
    return sorted((ROOT / "benchmarks/results").glob("*.md"))


def _reference() -> str:
    """Return the page of all public names, by room: those that the package imports, in its order."""
    tree = ast.parse((ROOT / "python/headscan/public.py").read_text(encoding="utf-8"))
    rooms: dict[str, list[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("headscan."):
            names = [f"{node.module}.{name.name}" for name in node.names if name.asname is None]
            rooms.setdefault(str(node.module).split(".")[1].capitalize(), []).extend(names)
    for module in ("evaluate", "judge", "figures"):
        rooms[module.capitalize()] = [f"headscan.{module}"]
    lines = ["# Python reference", "What `import headscan as hs` gives, and three modules beside it."]
    for room, names in rooms.items():
        lines += [f"## {room}", *(f"::: {name}" for name in names)]
    return "\n\n".join(lines) + "\n"
