"""The command ``headscan``: each subcommand parses, calls the library, prints."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from headscan.errors import HeadscanError

__all__ = ["main"]

_BAD_INPUT, _INTERRUPTED = 2, 130
_SCAN_EXAMPLE = """\
examples:
  headscan scan demo --out out
  headscan scan ViT-L-14 --pretrained laion2b_s32b_b82k --layers 20-23 --out out
  headscan scan local-dir:my-clip --dictionary concepts.txt --sides write,read -k 3 --out out
"""
_DOCTOR_EXAMPLE = """\
example:
  headscan doctor
"""
_Number = TypeVar("_Number", int, float)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise HeadscanError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 on bad usage or input, 130 when interrupted."""
    try:
        _prepare_streams()
        given = sys.argv[1:] if arguments is None else arguments
        _check_utf8(given)
        options = _parser().parse_args(given)
        run: Callable[[argparse.Namespace], None] = options.run
        run(options)
        sys.stdout.flush()
    except (OSError, MemoryError, ValueError, RuntimeError) as error:  # a HeadscanError is a ValueError
        if isinstance(error, BrokenPipeError):  # the reader, `head` say, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        sys.stderr.write(f"headscan: error: {_message(error)}\n")
        return _BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("headscan: interrupted\n")
        return _INTERRUPTED
    return 0


def _message(error: BaseException) -> str:
    from headscan.terminal import one_line, plain

    unsaid = "not enough memory" if isinstance(error, MemoryError) else type(error).__name__
    return plain(one_line(str(error)) or unsaid)


def _check_utf8(arguments: Sequence[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise HeadscanError(f"the argument {argument!a} is not valid UTF-8") from error


def _prepare_streams() -> None:
    """Send headscan's warnings, not those of other libraries, to standard error; survive odd characters."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("headscan: %(levelname)s: %(message)s"))
    log = logging.getLogger("headscan")
    log.handlers, log.propagate = [handler], False
    logging.getLogger().addHandler(logging.NullHandler())
    logging.captureWarnings(True)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _parser() -> argparse.ArgumentParser:
    from headscan import __version__

    parser = _Parser(prog="headscan", description="Explain the attention heads of CLIP models from their weights.")
    parser.add_argument("--version", action="version", version=f"headscan {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_scan(commands)
    doctor = commands.add_parser(
        "doctor",
        help="show versions, the build and where things are kept",
        description="Show versions, the build, its instruction sets, threads and the cache folder.",
        epilog=_DOCTOR_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doctor.set_defaults(run=_doctor)
    return parser


def _add_scan(commands: argparse._SubParsersAction[_Parser]) -> None:
    scan = commands.add_parser(
        "scan",
        help="explain every head of a model",
        description="Explain the singular directions of every head of a CLIP vision tower, in words.",
        epilog=_SCAN_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    scan.add_argument("model", metavar="MODEL", help="demo, an open_clip name, hf-hub:org/repo, local-dir:path")
    table = "explanations.parquet and manifest.json"
    scan.add_argument("--out", metavar="DIR", type=_folder, required=True, help=f"folder for {table}")
    _add_sources(scan)
    _add_choices(scan)
    scan.set_defaults(run=_scan)


def _add_sources(scan: argparse.ArgumentParser) -> None:
    add = scan.add_argument_group("model and dictionary").add_argument
    add("--pretrained", metavar="TAG", help="weights of an open_clip name: a tag, a checkpoint file, random")
    add("--image-mean", metavar="FILE", type=Path, help="mean image embedding, .safetensors or .npy")
    add("--batch-size", metavar="N", type=_at_least(int, 1), default=256, help="texts encoded at a time (256)")
    add("--device", metavar="NAME", help="where the text tower runs (default: cpu)")
    lists = "demo, wordnet, a text file with one concept a line, or a saved folder"
    default = "demo for the demo model, else wordnet"
    add("--dictionary", metavar="NAME|FILE|DIR", type=_list, help=f"{lists} (default: {default})")
    add("--template", metavar="TEXT", help="text with {} for the concept, 'a photo of a {}' say (default: {})")


def _add_choices(scan: argparse.ArgumentParser) -> None:
    from headscan.explain import MAX_THREADS

    add = scan.add_argument_group("what to explain, and how").add_argument
    add("--layers", metavar="all|20-23", type=_layers, default="all", help="numbered from 0 (default: all)")
    add(
        "--sides",
        metavar="SIDES",
        type=_sides,
        default=("write",),
        help="write, read or both, by comma (default: write)",
    )
    add("--poles", choices=("both", "+", "-"), default="both", help="which poles (default: both)")
    add("-k", metavar="N", type=_at_least(int, 1), default=5, help="concepts per explanation (default: 5)")
    weight = "weight of the concepts' similarity to one another (default: 0.3)"
    add("--coherence", metavar="X", type=_at_least(float, 0), default=0.3, help=weight)
    add("--no-fold", action="store_true", help="leave the layer norm out of the weights")
    threads = _at_least(int, 0, MAX_THREADS)
    add("--threads", metavar="N", type=threads, default=0, help="0: all that may be used (default)")
    add("--show", metavar="N", type=_at_least(int, 0), default=10, help="directions to print (default: 10)")


def _scan(options: argparse.Namespace) -> None:
    from headscan import _core
    from headscan.dictionary import load_dictionary
    from headscan.heads import select_layers
    from headscan.models import load_model
    from headscan.results import check_destination
    from headscan.scan import scan
    from headscan.terminal import print_strongest, summary

    check_destination(options.out)
    _core.build_info()  # refuses bad settings in the environment, before the work
    _limit_threads(options.threads)
    model = load_model(
        options.model, pretrained=options.pretrained, device=options.device, image_mean=options.image_mean
    )
    select_layers(options.layers, count=model.layers)  # before the dictionary is encoded
    name = options.dictionary
    if name is None:
        name = "demo" if options.model == "demo" else "wordnet"
    dictionary = load_dictionary(
        name, model=model, template=options.template, batch_size=options.batch_size, at_least=options.k
    )
    result = scan(
        model, dictionary, layers=options.layers, sides=options.sides, poles=options.poles, k=options.k,
        coherence=options.coherence, fold=not options.no_fold, threads=options.threads,
    )  # fmt: skip
    saved = result.save(options.out)
    sys.stdout.write(f"{summary(model, dictionary)}\n")
    if options.show:
        sys.stdout.flush()
        print_strongest(result, rows=options.show)
    certified = int(result.explanations["certified"].sum())
    sys.stdout.write(f"{len(result):,} explanations ({certified:,} certified exact) saved in {saved}\n")


def _limit_threads(threads: int) -> None:
    if threads:
        import torch

        torch.set_num_threads(threads)


def _doctor(options: argparse.Namespace) -> None:
    from headscan.doctor import report

    for name, value in report().items():
        sys.stdout.write(f"{name + ':':<20} {value}\n")


def _at_least(kind: type[_Number], smallest: _Number, largest: _Number | None = None) -> Callable[[str], _Number]:
    """Return a reader of finite numbers from `smallest` up, to `largest` where there is one."""
    what = "a whole number" if kind is int else "a number"

    def read(text: str) -> _Number:
        try:
            number = kind(text)
        except ValueError:
            number = kind(-1)
        if number < smallest or not math.isfinite(number):
            raise argparse.ArgumentTypeError(f"expected {what} of at least {smallest}, got {text!r}")
        if largest is not None and number > largest:
            raise argparse.ArgumentTypeError(f"expected {what} of at most {largest}, got {text!r}")
        return number

    return read


def _folder(text: str) -> Path:
    from headscan._files import expanded

    if not text:
        raise argparse.ArgumentTypeError("expected a folder, got ''")
    try:
        return expanded(text)
    except HeadscanError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _list(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected a list of concepts, got ''")
    return text


def _layers(text: str) -> str:
    from headscan.heads import parse_layers

    try:
        parse_layers(text)
    except HeadscanError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _sides(text: str) -> tuple[str, ...]:
    sides = tuple(part.strip() for part in text.split(","))
    for side in sides:
        if side not in ("write", "read"):
            raise argparse.ArgumentTypeError(f"expected write, read or write,read, got {text!r}")
    return sides
