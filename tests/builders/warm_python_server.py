"""The server of tests.builders.warm_python: its socket, its client, and what it imports.

It ends when its standard input is closed.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import marshal
import multiprocessing
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn


class Request:
    """A program to run."""

    def __init__(self, connection: socket.socket) -> None:
        header, descriptors, _, _ = socket.recv_fds(connection, 4, 200)
        data = b""
        while len(data) < int.from_bytes(header, "big"):
            data += connection.recv(1 << 20)
        self.words, self.environment, self.folder, self.client, self.numbers = marshal.loads(data)
        self.descriptors = descriptors

    def enter(self) -> None:
        """Turn this process into one that has just started."""
        # First above all that are open, so that none is closed before it has its own number.
        above = max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 1
        above = max([above, *(number + 1 for number in self.numbers)])
        copies = [fcntl.fcntl(number, fcntl.F_DUPFD, above) for number in self.descriptors]
        os.closerange(0, above)
        for copy, number in zip(copies, self.numbers, strict=True):
            os.dup2(copy, number, inheritable=True)
            os.close(copy)
        # The text streams of the server have seen other files.
        sys.stdout = open(1, "w", buffering=-1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.getppid = self.parent  # which workers ask, to end with it
        os.chdir(self.folder)
        os.environb.clear()
        os.environb.update(self.environment)
        kind, code, *arguments = self.words
        sys.argv = [kind, *arguments]
        sys.orig_argv = [sys.executable, *self.words]
        sys.path[0] = self.folder if kind == "-m" else ""
        if kind == "-m":
            runpy._run_module_as_main(code)  # type: ignore[attr-defined]
        else:
            exec(code, vars(sys.modules["__main__"]))

    def parent(self) -> int:
        """The process that started the client, or init after its end."""
        return int(Path(f"/proc/{self.client}/stat").read_text().rpartition(")")[2].split()[1])


def import_packages(modules: Sequence[str]) -> None:
    """Import the packages that these modules need, but leave out the modules of `pipeline`."""
    sys.path.insert(1, str(Path(__file__).parents[2]))
    for name in modules:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.split(".")[0] == "pipeline"]:
        del sys.modules[name]
    del sys.path[1]


def serve(address: str) -> Request:
    """Answer requests; returns in each fork, with its request."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(100)
    print("ready", flush=True)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(listener, selectors.EVENT_READ)
    forks: dict[int, tuple[int, socket.socket]] = {}  # by a descriptor of the process
    while True:
        for key, _ in selector.select():
            if key.fd == 0:
                sys.exit()
            elif key.fileobj is listener:
                connection, _ = listener.accept()
                request = Request(connection)
                if not (process := os.fork()):
                    selector.close()
                    return request
                for descriptor in request.descriptors:
                    os.close(descriptor)
                handle = os.pidfd_open(process)
                forks[handle] = process, connection
                selector.register(handle, selectors.EVENT_READ)
                selector.register(connection, selectors.EVENT_READ, handle)
            elif key.data in forks:  # the client was killed
                os.kill(forks[key.data][0], signal.SIGKILL)
                selector.unregister(key.fileobj)
            elif key.fd in forks:
                process, connection = forks.pop(key.fd)
                _, status = os.waitpid(process, 0)
                code = os.waitstatus_to_exitcode(status)
                with contextlib.suppress(OSError):
                    connection.send(code.to_bytes(4, "big", signed=True))
                selector.unregister(key.fd)
                with contextlib.suppress(KeyError):
                    selector.unregister(connection)
                os.close(key.fd)
                connection.close()


def run(request: Request) -> NoReturn:
    """Run a program to its end, but do not take apart its modules: that takes half a second."""
    code: object = None
    try:
        request.enter()
    except SystemExit as error:
        code = error.code
    except BaseException:  # noqa: BLE001 # as Python does
        sys.excepthook(*sys.exc_info())
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit((code or 0) & 0xFF)


if __name__ == "__main__":
    gc.disable()
    _, ADDRESS, CLIENT, *MODULES = sys.argv
    sys.executable = CLIENT
    multiprocessing.set_executable(CLIENT)
    import_packages(MODULES)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)  # as in tests/conftest.py
    REQUEST = serve(ADDRESS)
    gc.enable()
    run(REQUEST)
