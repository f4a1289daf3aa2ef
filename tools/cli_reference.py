"""Write docs/cli.md, the reference of the command line, from the command's own parsers.

python tools/cli_reference.py           writes the page
python tools/cli_reference.py --check   fails where the page is not what the parsers say
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from headscan.cli.main import BAD_INPUT, BUG, INTERRUPTED, READER_GONE, parser

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
_HEAD = f"""\
# The command line

<!-- Written by tools/cli_reference.py from the parsers: change those, then run it. -->

`headscan COMMAND --help` shows the same, and `python -m headscan` is the same command. Examples run one after the
other, in the order of the commands.

## Exit status

| status | meaning |
| ---: | --- |
| 0 | done |
| {BUG} | a bug in headscan: one line says so and asks for a report; `--debug` shows the traceback |
| {BAD_INPUT} | bad usage or bad input, or the machine is short of something: one line says what was \
expected, what came and what to do |
| {INTERRUPTED} | interrupted with Ctrl-C |
| {READER_GONE} | the reader of a pipe, `head` say, left before the end |

Errors and warnings go to standard error, a line each that begins with `headscan: `; what a command answers goes to
standard output. Texts that are not headscan's own (file names, concepts, what a library says) have their control and
direction characters written out, so that none of them can steer a terminal or pass for a line of headscan's.

## Forms of the answer

| option | standard output |
| --- | --- |
| none | text and tables for reading; a terminal under 80 columns gets rows one below another |
| `--json` | one JSON document in ASCII, on one line: `command`, `headscan` (its version), facts of the command, and \
`tables`, a list of rows each |
| `--csv` | the command's first table |
| `--quiet` | nothing; no progress bars and no warnings on standard error either |
"""


def page() -> str:
    """Return the page.

    Raises
    ------
    SystemExit
        If a command or an option says nothing of itself.
    """
    (commands,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    summaries = {action.dest: action.help for action in commands._choices_actions}
    rows = "\n".join(f"| [`{name}`](#headscan-{name}) | {summaries[name]} |" for name in commands.choices)
    sections = [section for name, command in commands.choices.items() for section in _section(name, command)]
    return (
        "\n".join([_HEAD, "## Commands", "", "| command | what it does |", "| --- | --- |", rows, *sections]) + "\n"
    )


def _section(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    if not command.description or not command.epilog:
        sys.exit(f"headscan {name} has no description or no examples")
    yield f"\n## headscan {name}\n\n{command.description}\n"
    required = [_written(action) for action in command._actions if action.required or not action.option_strings]
    yield f"    headscan {' '.join([name, *required, '[options]'])}\n"
    for group in command._action_groups:
        actions = [action for action in group._group_actions if action.dest != "help"]
        if actions:
            title = {"positional arguments": "arguments"}.get(str(group.title), str(group.title))
            yield f"| {title} | |\n| --- | --- |"
            yield (
                "\n".join(f"| `{_cell(_written(action))}` | {_cell(_help(name, action))} |" for action in actions)
                + "\n"
            )
    examples, _, note = command.epilog.partition("\n\n")
    yield "```console\n" + "\n".join(line.strip() for line in examples.splitlines()[1:] if line.strip()) + "\n```"
    if note.strip():
        yield f"\n{note.strip()}"


def _written(action: argparse.Action) -> str:
    value = action.metavar or ("{" + ",".join(action.choices) + "}" if action.choices else action.dest.upper())
    if not action.option_strings:
        return f"{value}..." if action.nargs == "+" else str(value)
    names = ", ".join(action.option_strings)
    return names if action.nargs == 0 else f"{names} {value}"


def _help(name: str, action: argparse.Action) -> str:
    if not action.help:
        sys.exit(f"headscan {name}: {_written(action)} has no help")
    return re.sub("%%", "%", action.help)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Write the page, or check it."""
    if sys.argv[1:] == ["--check"]:
        stale = not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page()
        sys.stdout.write(f"{PAGE} is {'stale: run tools/cli_reference.py' if stale else 'what the parsers say'}\n")
        return int(stale)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
