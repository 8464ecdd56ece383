"""The package imports on systems that are not Unix."""

import subprocess
import sys

from tests import ROOT

IMPORT_WITHOUT_UNIX_MODULES = """
import importlib, sys, warnings

class WithoutUnixModules:
    def find_spec(self, name, path=None, target=None):
        frame = sys._getframe(1)
        while frame.f_globals["__name__"].startswith("importlib"):
            frame = frame.f_back
        importer = frame.f_globals["__name__"]
        # psutil has other modules for other systems.
        if name in ("fcntl", "resource") and not importer.startswith("psutil"):
            raise ImportError(f"{importer} imports {name}")

sys.meta_path.insert(0, WithoutUnixModules())
warnings.filterwarnings("ignore", "only soft file lock is available")  # filelock without fcntl
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_every_module_imports_without_the_modules_that_only_unix_has() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(ROOT.glob("pipeline/**/*.py"))
    ]
    assert len(modules) > 100
    command = [sys.executable, "-c", IMPORT_WITHOUT_UNIX_MODULES, *modules]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-2000:]
