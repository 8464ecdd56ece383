"""A `python` that starts with the packages of the pipeline already imported.

Importing torch, MLflow and their like takes most of the time of a small pipeline's stages. A server
imports them once per test process; `executable()` is a small client that asks it for a fork, passes
its arguments, environment, working directory and open files, and ends as the fork does. The modules
of `pipeline` are not among those imported: a fork reads them from its working directory.

A killed client takes its fork along. Signals that can be caught are not passed on: tests of them,
and of what a process imports, start the real Python.
"""

import atexit
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

PROGRAM = Path(__file__).with_name("warm_python_server.py")
CLIENT = """#!{python} -IS
import marshal, os, sys
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket

words = sys.argv[1:]
descriptors = []
for name in os.listdir("/proc/self/fd"):
    try:
        if os.get_inheritable(int(name)):
            descriptors.append(int(name))
    except OSError:  # that of the folder
        pass
server = socket(AF_UNIX, SOCK_STREAM)
try:
    program = words[1:] if words[:1] == ["-u"] else words  # torchrun's: a fork flushes
    assert program[:1] in (["-m"], ["-c"])
    server.connect({address!r})
except (AssertionError, OSError):
    os.execv({python!r}, [{python!r}, *words])
request = marshal.dumps((program, dict(os.environb), os.getcwd(), os.getpid(), descriptors))
packed = b"".join(number.to_bytes(4, sys.byteorder) for number in descriptors)
server.sendmsg([len(request).to_bytes(4, "big")], [(SOL_SOCKET, SCM_RIGHTS, packed)])
server.sendall(request)
for number in descriptors:
    os.close(number)  # or who reads from a pipe would wait for this process too
code = int.from_bytes(server.recv(4), "big", signed=True)
if code < 0:
    import signal
    signal.signal(-code, signal.SIG_DFL) if -code not in (9, 19) else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


STAGES = ("acquire", "filter", "split", "describe", "features", "train", "evaluate")
MODULES = (
    *(f"pipeline.stages.{stage}.__main__" for stage in STAGES),
    # What the stages and commands import when they need it.
    "mlflow",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "sklearn.manifold",
    "sklearn.metrics",
    "pandas",
)


@cache
def executable() -> Path:
    """The client, in a folder without other programs; its server ends with this process."""
    server = Server(MODULES)
    atexit.register(server.end)
    return server.client


class Server:
    """A process that has imported `modules`, and runs the programs that clients ask for."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="warm-python-"))
        address = self._folder / "server"
        self.client = self._folder / "python"
        self.client.write_text(CLIENT.format(python=sys.executable, address=str(address)))
        self.client.chmod(0o755)
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, address, self.client, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=self._folder,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def end(self) -> None:
        self.process.communicate()  # it ends when its standard input is closed
        shutil.rmtree(self._folder)
