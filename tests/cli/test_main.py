"""The command line: what it prints and saves; one clear line and exit status 2 for all bad input."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import headscan as hs
from conftest import CONCEPTS, build_module, write_adapter, write_bundle
from headscan.cli import main
from headscan.cli.scan import _strongest
from headscan.cli.tables import print_rows
from headscan.common.terminal import plain, progress_bar


@pytest.fixture(autouse=True)
def _quiet_logging(monkeypatch):
    """Undo what a command sets up for its own process."""
    import logging

    root, log = logging.getLogger(), logging.getLogger("headscan")
    before = (list(root.handlers), list(log.handlers), log.propagate)
    factory = logging.getLogRecordFactory()
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    yield
    logging.captureWarnings(False)
    root.handlers, log.handlers, log.propagate = before
    logging.setLogRecordFactory(factory)


@pytest.fixture
def concepts(tmp_path):
    path = tmp_path / "concepts.txt"
    path.write_text("\n".join(CONCEPTS))
    return path


@pytest.fixture
def run(bundle, concepts, tmp_path, capsys):
    """Run ``headscan scan`` on the tiny model with more arguments; later ones win."""

    def run(*arguments, model=None):
        base = [
            "scan",
            model or f"local-dir:{bundle}",
            "--dictionary",
            str(concepts),
            "--out",
            str(tmp_path / "out"),
        ]
        status = main.main([*base, *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


# ---- success


def test_scan_prints_and_saves(run, tmp_path):
    status, out, err = run("--sides", "write,read", "-k", 3, "--show", 4)
    assert (status, err) == (0, "")
    scan = hs.load_scan(tmp_path / "out")
    assert len(scan) == 3 * 4 * 8 * 2 * 2
    assert scan.info.k == 3
    assert "Layer 2: the 4 strongest directions" in out
    assert "3 layers of 4 heads, width 32, rank 8, joint space 24, image mean subtracted" in out
    assert "concepts.txt: 30 concepts; dropped 0 blank, 0 repeated, 0 with the tokens of another" in out
    assert "384 explanations (384 certified exact) saved in" in out
    assert "\x1b" not in out  # no colour off a terminal


def test_options_reach_the_scan(run, tmp_path, concepts):
    arguments = "--layers 0,-1 --sides read --poles - -k 2 --coherence 0.5 --threads 1 --no-fold --show 0"
    status, out, _ = run(*arguments.split(), "--template", "a photo of a {}")
    assert status == 0
    words = [line.split()[0] for line in out.splitlines()]
    assert words == ["model", "dictionary", "verdict", "64"]  # no table
    info = hs.load_scan(tmp_path / "out").info
    assert (info.layers, info.sides, info.poles) == ((0, 2), ("read",), ("-",))
    assert (info.k, info.coherence, info.folded, info.template) == (2, 0.5, False, "a photo of a {}")
    assert info.dictionary == concepts.name


def test_a_scan_says_on_a_terminal_what_to_do_next(run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    status, out, _ = run("--layers", 0, "--show", 0)
    assert status == 0
    folder, concept = (
        tmp_path / "out",
        hs.load_scan(tmp_path / "out").explanations.sort_values("q_value", kind="stable"),
    )
    commands = [shlex.split(line.removeprefix("next")) for line in out.splitlines() if "  headscan " in line]
    assert commands[:2] == [
        ["headscan", "report", str(folder), "--open"],
        ["headscan", "find", concept["concept_0"].iloc[0], str(folder)],
    ]
    assert commands[2][:2] == ["headscan", "edit"] and commands[2][-1] == "--dry-run"
    for command in commands:
        assert main.parser().parse_args(command[1:])


def test_scan_equals_the_library(run, bundle, concepts, tmp_path):
    assert run("--layers", "1-2")[0] == 0
    model = hs.load_model(f"local-dir:{bundle}")
    scan = hs.scan(model, hs.load_dictionary(concepts, model=model), layers=[1, 2])
    assert hs.load_scan(tmp_path / "out").table().equals(scan.table())


def test_the_demo_explains_itself_with_its_own_dictionary(tmp_path, capsys):
    assert main.main(["scan", "demo", "--layers", "-1", "--out", str(tmp_path / "out")]) == 0
    assert "strongest directions" in capsys.readouterr().out
    assert hs.load_scan(tmp_path / "out").info.dictionary == "demo"


def test_doctor(capsys):
    assert main.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for name in ("python:", "headscan:", "torch:", "build instruction_sets:", "cache folder:"):
        assert name in out


def test_doctor_shows_the_threads_in_use(capsys, monkeypatch):
    monkeypatch.setenv("HEADSCAN_NUM_THREADS", "3")
    assert main.main(["doctor"]) == 0
    assert re.findall(r"^.*threads:.*$", capsys.readouterr().out, flags=re.MULTILINE) == [f"{'threads:':<20} 3"]


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main.main(["--version"])
    assert capsys.readouterr().out == f"headscan {hs.__version__}\n"


def commands():
    parser = main.parser()
    (action,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return action.choices


@pytest.mark.parametrize("name", commands())
def test_every_command_shows_examples_that_parse(name):
    epilog = commands()[name].epilog or ""
    examples = re.findall(r"^  headscan (.*)$", epilog, flags=re.MULTILINE)
    assert examples
    for example in examples:
        assert shlex.split(example)[0] == name
        main.parser().parse_args(shlex.split(example))


def test_the_help_fits_a_screen(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    listed = [line.split()[0] for line in lines if re.match(r"    \w", line)]
    assert listed == list(commands())


def test_the_first_example_of_every_command_runs_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = "visual.transformer.resblocks.7.attn.out_proj"
    shapes = {"A": (2, 128), "B": (128, 2)}
    change = {f"base_model.model.{name}.lora_{side}.weight": torch.ones(shapes[side]) for side in "AB"}
    write_adapter(tmp_path / "my-lora-adapter", change)
    for name, parser in commands().items():
        example = re.findall(r"^  headscan (.*)$", parser.epilog or "", flags=re.MULTILINE)[0]
        assert main.main(shlex.split(example)) == 0, (example, capsys.readouterr().err)
        assert capsys.readouterr().out, name


# ---- bad input


def refused(result, says):
    status, out, err = result
    assert status == 2
    assert out == ""
    assert re.fullmatch(r"headscan: error: [^\n]+\n", err)
    assert re.search(says, err), err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-k", "-3"], "argument -k: expected a whole number of at least 1, got '-3'"),
        (["-k", "0"], "at least 1"),
        (["-k", "two"], "argument -k: expected a whole number"),
        (["-k", "1.5"], "argument -k: expected a whole number"),
        (["-k", "31"], "the dictionary concepts.txt has 30 concepts: 31 are needed"),
        (["--coherence", "-1"], "argument --coherence: expected a number of at least 0, got '-1'"),
        (["--coherence", "nan"], "argument --coherence"),
        (["--coherence", "inf"], "argument --coherence"),
        (["--threads", "-1"], "argument --threads"),
        (["--threads", "99999999999"], "argument --threads: expected a whole number of at most 1024"),
        (["--threads", "20000"], "argument --threads: expected a whole number of at most 1024"),
        (["--show", "x"], "argument --show"),
        (["--batch-size", "0"], "argument --batch-size"),
        (["--layers", "7"], "there is no layer 7: the vision tower has layers 0 to 2"),
        (["--layers", "1-9"], "there is no layer 9"),
        (["--layers", "two"], "argument --layers: layers must be"),
        (["--sides", "left"], "argument --sides: expected write, read or write,read, got 'left'"),
        (["--poles", "x"], "argument --poles: invalid choice"),
        (["--template", "a photo"], "a template needs {} once"),
        (["--dictionary", "no-such-list"], "there is no list or dictionary 'no-such-list'"),
        (["--image-mean", "no-such.npy"], "there is no image mean file no-such.npy"),
        (["--device", "warp"], "device 'warp' cannot be used"),
        (["--device", "meta"], "device 'meta' cannot be used: it holds no weights"),
        (["--pretrained", "openai"], "brings its own weights"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--out", ""], "argument --out: expected a path, got ''"),
        (["--out", "~nosuchuser/x"], "argument --out: there is no home folder for ~nosuchuser in ~nosuchuser/x"),
        (["--dictionary", "~nosuchuser/x"], "there is no home folder for ~nosuchuser"),
        (["--dictionary", ""], "argument --dictionary: expected a list of concepts, got ''"),
        (["--template", "\udcff{}"], r"the argument '\\udcff\{\}' is not valid UTF-8"),
        (["--out", "x\udcffy"], r"the argument 'x\\udcffy' is not valid UTF-8"),
    ],
)
def test_bad_arguments(run, arguments, says):
    refused(run(*arguments), says)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("ViT-Q-99", "there is no model 'ViT-Q-99'"),
        ("ViT-B-32", "say which weights with pretrained"),
        ("local-dir:/no/such/folder", "there is no model folder"),
        ("\x1b[31mred\n", r"there is no model '\\x1b\[31mred\\n'"),
    ],
)
def test_bad_models(run, model, says):
    refused(run(model=model), says)


def test_bad_files(run, tmp_path, module):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    refused(run("--dictionary", empty), "the dictionary empty.txt is empty")
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    refused(run("--dictionary", binary), "begins as utf-16 but is not")
    module.visual.proj.data[0, 0] = float("nan")
    broken = write_bundle(tmp_path / "broken", module)
    refused(run(model=f"local-dir:{broken}"), "the weights hold NaN: tensor visual.proj")


def test_bad_places(run, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "manifest.json").write_text("{}")
    refused(run("--out", tmp_path / "file"), "is not a folder")
    refused(run("--out", tmp_path / "file" / "below"), "is not a folder")
    refused(run("--out", tmp_path / "taken"), "will not write to")
    refused(run("--out", "/proc/headscan"), "cannot write to /proc/headscan")
    (tmp_path / "table" / "explanations.parquet").mkdir(parents=True)
    refused(run("--out", tmp_path / "table"), "explanations.parquet is a folder")


def test_a_home_folder_is_found(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert run("--out", "~/mine", "--layers", 0)[0] == 0
    assert len(hs.load_scan(tmp_path / "home" / "mine")) == 64
    assert not (tmp_path / "~").exists()
    monkeypatch.setenv("HEADSCAN_CACHE", "~nosuchuser/x")
    refused(run("--layers", 0), "there is no home folder for ~nosuchuser")


@pytest.mark.parametrize(
    ("name", "value"), [("HEADSCAN_NUM_THREADS", "0"), ("HEADSCAN_NUM_THREADS", "abc"), ("HEADSCAN_ISA", "bogus")]
)
def test_bad_settings_come_before_the_work(run, monkeypatch, tmp_path, name, value):
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("headscan.dictionaries.by_name.load_model", None)
    refused(run(), f"{name} must be .* got '{value}'")


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, KeyError, TypeError, AssertionError, OSError])
def test_what_is_no_bad_input_is_a_bug_in_one_line(run, monkeypatch, kind):
    def fails(*arguments, **options):
        raise kind("\x1b[31mdeep\x1b[0m\nheadscan: error: forged")

    monkeypatch.setattr("headscan.dictionaries.by_name.load_model", fails)
    status, out, err = run()
    assert (status, out) == (1, "")
    assert re.fullmatch(
        r"headscan: this is a bug in headscan [^\n]*, please report it on its issues page[^\n]*\n", err
    )
    assert f"with what --debug shows: {kind.__name__}: " in err and "\x1b" not in err
    status, out, err = run("--debug")
    assert (status, out) == (1, "")
    assert "Traceback (most recent call last):" in err and "in fails" in err
    lines = err.splitlines()
    assert lines[-1].startswith("headscan: this is a bug")
    assert all(line.startswith("  ") for line in lines[:-1])  # no line of it can be taken for headscan's own


def test_bad_input_has_a_traceback_under_debug_only(run):
    status, _, err = run("--layers", "7", "--debug")
    assert status == 2
    assert "Traceback" in err and err.splitlines()[-1].startswith("headscan: error: there is no layer 7")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FileNotFoundError(2, "No such file or directory", "a\nb"), "a b: No such file or directory"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ImportError("cannot import name 'x'", name="torch"), "a package that headscan needs cannot be used: cannot"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9"), "not enough memory"),
    ],
)
def test_what_the_machine_is_to_blame_for_is_no_bug(run, monkeypatch, error, says):
    def fails(*arguments, **options):
        raise error

    monkeypatch.setattr("headscan.dictionaries.by_name.load_model", fails)
    refused(run(), says)


def test_a_working_folder_that_is_gone_is_no_bug(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        Path.cwd()
    assert main.bad_input(caught.value) == "the folder that headscan was started in is gone: change to another one"


def test_cheap_checks_come_before_the_work(run, monkeypatch, tmp_path):
    def never(*arguments, **options):
        raise AssertionError("the work has begun")

    monkeypatch.setattr("headscan.dictionaries.encoding.encode_tokens", never)
    refused(run("--layers", 5), "there is no layer 5")
    refused(run("-k", 99), "99 are needed")
    monkeypatch.setattr("headscan.dictionaries.by_name.load_model", never)
    (tmp_path / "file").write_text("")
    refused(run("--out", tmp_path / "file"), "is not a folder")


@pytest.mark.parametrize("arguments", [[], ["bogus"], ["scan"], ["scan", "demo"]])
def test_bad_usage(arguments, capsys):
    refused((main.main(arguments), *capsys.readouterr()), r"\(see headscan( scan)? --help\)")


def test_an_interrupt_is_one_line(run, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("headscan.dictionaries.by_name.load_model", interrupted)
    assert run() == (130, "", "headscan: interrupted\n")


def test_a_full_memory_is_one_line(run, monkeypatch):
    def full(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr("headscan.dictionaries.by_name.load_model", full)
    refused(run(), "not enough memory")


# ---- as a process


def start(*arguments, before="pass"):
    listen = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # ignored in background jobs
    code = f"import sys; {listen}; from headscan.cli.main import main; {before}; sys.exit(main())"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_process_fails_with_one_line_and_no_traceback(tmp_path):
    with start("scan", "no-such-model", "--out", tmp_path) as process:
        out, err = process.communicate(timeout=120)
    refused((process.returncode, out, err), "there is no model 'no-such-model'")


def test_a_process_is_interrupted_with_one_line(tmp_path):
    work = "print('at work', flush=True) or __import__('time').sleep(100)"
    patch = f"import headscan.models.text; headscan.models.text.evaluating = lambda module: {work}"
    with start("scan", "demo", "--out", tmp_path / "out", before=patch) as process:
        assert process.stdout is not None and process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "headscan: interrupted\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "slow"),
    [
        (["-c", "import sys, headscan_command; sys.exit(headscan_command.main())", "doctor"], "headscan.core.comp"),
        (["-c", "import sys, headscan_command; sys.exit(headscan_command.main())", "doctor"], "headscan.cli.main"),
        (["-m", "headscan", "doctor"], "headscan.core.comp"),
        (["-m", "headscan", "scan", "demo", "--out", "out"], "torch"),
    ],
)
def test_an_interrupt_during_imports_is_one_line(tmp_path, command, slow):
    hook = (
        "import sys, time, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {slow!r}:\n"
        "            print('importing', flush=True)\n"
        "            time.sleep(100)\n"
        "sys.meta_path.insert(0, Slow())\n"
    )
    (tmp_path / "sitecustomize.py").write_text(hook)
    package = str(Path(hs.__file__).parents[1])
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), package])}
    started = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": settings, "cwd": tmp_path}
    with subprocess.Popen([sys.executable, *command], **started) as process:
        assert process.stdout is not None and process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "headscan: interrupted\n")


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "headscan", "--version"]
    assert subprocess.check_output(command, text=True) == f"headscan {hs.__version__}\n"


def test_a_reader_that_leaves_early_is_no_error(bundle, concepts, tmp_path):
    arguments = ["scan", f"local-dir:{bundle}", "--dictionary", concepts, "--out", tmp_path / "out"]
    with start(*arguments) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=120) == 141
    assert len(hs.load_scan(tmp_path / "out")) == 192


def test_a_closed_output_is_no_error(tmp_path):
    code = "from headscan.cli.main import main; import sys; sys.exit(main(['doctor']))"
    command = ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, code]
    found = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_importing_headscan_is_light():
    heavy = "{'torch', 'open_clip', 'pandas', 'rich', 'numpy'}"
    code = f"import sys, headscan; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


# ---- what is printed


def test_foreign_text_cannot_steer_the_terminal(model, tmp_path):
    import io

    assert plain("a\x1b[2Jb\u202ec\td") == "a\\u001b[2Jb\\u202ec\\u0009d"
    assert plain("[red]caf\u00e9 \U0001f986 \u732b\u200d") == "[red]caf\u00e9 \U0001f986 \u732b\u200d"
    hostile = ["[red]cat[/red]", "[link=file:///etc]dog[/link]", "wood\u202e", "[/]", ":smile:"]
    scan = hs.scan(model, hs.load_dictionary(hostile, model=model, cache=False), layers=0, k=5, coherence=0.0)
    file = io.StringIO()
    table = _strongest(scan, rows=8)
    assert table.text is not None
    print_rows(table.text, title=table.title, columns=table.columns, file=file)
    shown = re.sub(r"\s", "", file.getvalue())
    assert "[red]cat[/red]" in shown
    assert ":smile:" in shown
    assert "\u202e" not in shown


FORGED = "x\x1b[2J\u202e\nheadscan: error: forged"


def harmless(text):
    """Say whether a text holds nothing that steers a terminal, and no forged line."""
    return not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text) and "\nheadscan: error: forged" not in text


def test_names_of_folders_are_one_harmless_line(run, tmp_path, capsys):
    folder = tmp_path / FORGED
    status, out, err = run("--out", folder, "--layers", 0, "--significance", 0)
    assert status == 0 and err == ""
    assert harmless(out) and "saved in" in out and "\\u000aheadscan: error: forged" in out
    for arguments in (["report", folder], ["find", FORGED, folder, "--words"], ["find", "dog", f"{folder}x"]):
        status = main.main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        assert status in (0, 2)
        assert harmless(out + "\n" + err.replace("headscan: error: ", "", 1))


def test_what_a_manifest_says_is_harmless(dictionary, tmp_path, capsys):
    import json

    folder = dictionary.save(tmp_path / "words")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"history": [FORGED], "source": FORGED}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    status = main.main(["vocab", str(folder), "--drop", "^d", "--out", str(tmp_path / "fewer")])
    out, err = capsys.readouterr()
    assert (status in (0, 2)) and harmless(f"{out}\n{err}")


def test_what_other_libraries_log_is_harmless(run, monkeypatch, capsys):
    import logging
    import warnings

    def load(*arguments, **options):
        other, own = logging.getLogger("other"), logging.getLogger("headscan.models")
        other.addHandler(logging.StreamHandler(sys.stderr))
        try:
            raise ValueError(FORGED)
        except ValueError:
            other.exception("failed on %s", FORGED)
        other.handlers.clear()
        own.warning("odd: %s", FORGED)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(FORGED, stacklevel=1)
        raise hs.HeadscanError(FORGED)

    monkeypatch.setattr("headscan.dictionaries.by_name.load_model", load)
    status, out, err = run()
    assert (status, out) == (2, "")
    first, second, last = err.splitlines()
    assert first.startswith("failed on x") and second.startswith("headscan: WARNING: odd: x")
    assert last.startswith("headscan: error: x") and harmless(f"{first}\n{second}\n{last}")


@pytest.mark.parametrize(("columns", "width"), [("0", 100), ("30", 100), ("120", 120), (None, 140)])
def test_a_narrow_table_keeps_its_concepts(run, tmp_path, monkeypatch, columns, width):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    status, out, _ = run("--layers", 0, "--show", 2)
    assert status == 0
    table = hs.load_scan(tmp_path / "out").strongest(4)
    for concept in table["concept_0"]:
        assert concept in out
    lines = out.splitlines()
    assert max(map(len, lines)) <= max(width, len(lines[-1]), len(lines[0]))
    assert all(line == line.rstrip() for line in lines)


def test_a_progress_bar_is_for_terminals_only(capsys):
    with progress_bar("counting", total=2, unit="things") as advance:
        advance(2)
    assert capsys.readouterr().err == ""
    with progress_bar("counting", total=2, unit="things", show=True) as advance:
        advance(2)
    assert "counting" in capsys.readouterr().err


def test_a_dictionary_folder_can_be_named(run, bundle, tmp_path, dictionary):
    folder = dictionary.save(tmp_path / "saved")
    assert run("--dictionary", folder, "--layers", 0)[0] == 0
    shutil.rmtree(tmp_path / "out")
    (folder / "mean.npy").write_bytes(b"")
    refused(run("--dictionary", folder), "is damaged")
    assert np.isfinite(dictionary.atoms).all()
    other = build_module()
    other.ln_final.bias.data[0] += 1.0
    strange = write_bundle(tmp_path / "strange", other)
    refused(
        run("--dictionary", dictionary.save(tmp_path / "again"), model=f"local-dir:{strange}"),
        "another text tower",
    )
