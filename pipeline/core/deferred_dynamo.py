"""Import torch._dynamo, the compiler, only when something is compiled.

lightning-fabric and torchvision use a few names of it when they are imported. Its import takes more
than a second in every process.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

IMPORTERS = {
    "lightning_fabric.wrappers",
    "torchvision.ops.roi_align",
    "torchvision.tv_tensors",
}


def install() -> None:
    """Defer the imports by `IMPORTERS`. It imports nothing itself."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in IMPORTERS or "torch._dynamo" in sys.modules:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with _stand_ins():
            super().exec_module(module)


@contextmanager
def _stand_ins() -> Iterator[None]:
    dynamo: Any = ModuleType("torch._dynamo")
    dynamo.OptimizedModule = OptimizedModule
    dynamo.disable = _disable
    dynamo.utils = ModuleType("torch._dynamo.utils")
    dynamo.utils.is_compile_supported = is_compile_supported
    modules = {"torch._dynamo": dynamo, "torch._dynamo.utils": dynamo.utils}
    sys.modules |= modules
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


def _disable(function: Callable[..., Any], recursive: bool, **_: object) -> Callable[..., Any]:
    """As torch._dynamo.disable, which the first call of the function imports."""
    from torch._compile import _disable_dynamo

    return _disable_dynamo(function, recursive)


class _IsCompiled(type):
    def __instancecheck__(cls, instance: object) -> bool:
        dynamo: Any = sys.modules.get("torch._dynamo")
        return dynamo is not None and isinstance(instance, dynamo.OptimizedModule)


class OptimizedModule(metaclass=_IsCompiled):
    """A compiled network, for `isinstance`; before the import of torch._dynamo nothing is one."""


def is_compile_supported(device_type: str) -> bool:
    """As in torch._dynamo.utils."""
    from torch._dynamo import utils

    return bool(utils.is_compile_supported(device_type))
