"""The command and a Python that start at once: forks of one process that has torch and headscan imported already.

Every scan replaces what its folder holds: the shared cases scan several models into one.

``python warm.py SOCKET`` is that process; `write_commands` writes the two executables that ask it. What is read from
the environment at import, the hub's address above all, makes them start a process of their own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import sys
import traceback
from pathlib import Path

__all__ = ["write_commands"]

_CLIENT = """#!{python} -IS
import json, os, socket, sys

if "HF_ENDPOINT" in os.environ:
    os.environ["PYTHONPATH"] = {path!r} + os.pathsep + os.environ.get("PYTHONPATH", "")
    command = ["-c", "import sys; from headscan_command import main; sys.exit(main())"] if {headscan} else []
    os.execv({python!r}, [{python!r}, *command, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({socket!r})
    socket.send_fds(server, [b"0"], [0, 1, 2])
    request = {{"headscan": {headscan}, "arguments": sys.argv[1:], "folder": os.getcwd()}}
    server.sendall(json.dumps({{**request, "environment": dict(os.environ)}}).encode())
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.recv(8) or b"1"))
"""


def write_commands(folder: Path, address: str) -> tuple[Path, Path]:
    """Write ``headscan`` and ``python`` that run in the process at an address, and return their paths."""
    import headscan

    written = []
    for name in ("headscan", "python"):
        values = {"python": sys.executable, "path": str(Path(headscan.__file__).parents[1]), "socket": address}
        path = folder / name
        path.write_text(_CLIENT.format(headscan=name == "headscan", **values))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        written.append(path)
    return written[0], written[1]


def _serve(address: str) -> None:
    import open_clip  # noqa: F401
    import transformers  # noqa: F401

    import headscan.cli.main
    import headscan.explanations.by_name  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                status = _answer(connection)
                connection.sendall(str(status).encode())
                os._exit(0)
            connection.close()


def _answer(connection: socket.socket) -> int:
    _, descriptors, *_ = socket.recv_fds(connection, 1, 3)
    request = json.loads(connection.makefile("rb").read())
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        return _run(request["arguments"], headscan=request["headscan"])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _run(arguments: list[str], *, headscan: bool) -> int:
    if headscan:
        from headscan.cli.main import main

        return main(arguments + (["--force"] if arguments[:1] == ["scan"] else []))
    source = arguments[1] if arguments[0] == "-c" else sys.stdin.read()
    sys.argv = arguments
    exec(compile(source, "<test>", "exec"), {"__name__": "__main__"})
    return 0


if __name__ == "__main__":
    _serve(sys.argv[1])
