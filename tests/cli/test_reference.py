"""docs/cli.md says what the parsers say: no command and no option is undocumented, the page is not stale."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from headscan.cli import main
from headscan.cli.options import add_command
from headscan.cli.output import Output

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "tools" / "cli_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_parsers_say(tool):
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == tool.page(), "docs/cli.md is stale: run tools/cli_reference.py"
    for status in (main.BUG, main.BAD_INPUT, main.INTERRUPTED, main.READER_GONE):
        assert f"| {status} |" in page


@pytest.mark.parametrize("undocumented", ["command", "option"])
def test_what_says_nothing_of_itself_is_refused(tool, monkeypatch, undocumented):
    class Command:
        @staticmethod
        def add(commands):
            words = "" if undocumented == "command" else "Does nothing."
            parser = add_command(
                commands,
                "nothing",
                lambda args: Output([]),
                summary="nothing",
                description=words,
                examples="example:\n",
            )
            if undocumented == "option":
                parser.add_argument("--bare")

    monkeypatch.setattr(main, "_COMMANDS", (*main._COMMANDS, Command))
    with pytest.raises(SystemExit, match="headscan nothing"):
        tool.page()
