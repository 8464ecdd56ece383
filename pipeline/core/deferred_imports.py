"""Import what few programs need only when it is needed.

Parts of other packages take two seconds in every process that imports torch, and one second where
mlflow or scikit-learn is imported:

- torch._dynamo, the compiler. lightning-fabric and torchvision use a few names of it when they are
  imported, and get stand-ins.
- Modules of torch that only register functions, for the compiler or for a GPU. They become empty
  modules, which are imported when one of their attributes is used.
- torch.onnx, which torchvision imports to export the operators of detection networks.
- pandas, which pyarrow and scikit-learn import to see whether something is one of its objects, and
  mlflow to describe data sets.
- Packages of mlflow for language models and for other libraries' models, and of scipy and
  scikit-learn, which t-SNE does not need. Their `__init__` runs when one of their attributes is
  used; the modules in them can be imported without it.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from threading import RLock
from types import FrameType, ModuleType
from typing import Any

# Modules that use names of torch._dynamo when they are imported.
USERS_OF_DYNAMO = {
    "lightning_fabric.wrappers",
    "torchvision.ops.roi_align",
    "torchvision.tv_tensors",
}
META = "torch._meta_registrations"  # how operations work on tensors without values
VERSIONS_WITH_META_APART = ("2.14.",)  # of torch; others may need it for something else
WITHOUT_META = {"torch.utils._device"}  # Fabric's only internal import that needs none of it
OPERATORS = "torchvision.ops._register_onnx_ops"
DEFERRED = {META, OPERATORS, "cuda.bindings.driver", "cuda.bindings.runtime"}
# Packages, with attributes that come from one module each, without the rest of the package.
DEFERRED_PACKAGES: dict[str, dict[str, str]] = {
    "mlflow.gateway": {},  # with fastapi
    "mlflow.genai": {},
    "mlflow.genai.judges": {},
    "mlflow.genai.scorers": {},
    "mlflow.models": {},  # with pandas and scipy
    "scipy.stats": {},
    "sklearn.decomposition": {"PCA": "_pca"},
    "sklearn.manifold": {
        "TSNE": "_t_sne",
        "_barnes_hut_tsne": "_barnes_hut_tsne",
        "_utils": "_utils",
    },
    "sklearn.metrics": {
        "DistanceMetric": "_dist_metrics",
        "pairwise_distances": "pairwise",
        "pairwise_distances_chunked": "pairwise",
    },
    "sklearn.neighbors": {"NearestNeighbors": "_unsupervised"},
    "sklearn.preprocessing": {"normalize": "_data"},
    "sklearn.tree": {},
}
WITHOUT_PANDAS = {"pipeline", "pyarrow", "sklearn"}  # packages
MLFLOW_EVALUATION = "mlflow.models.evaluation.base"  # also works without pandas
DATASET_KINDS = "mlflow.data.dataset_registry"  # imports those whose packages are installed

MACHINERY = {__name__, "importlib", "importlib._bootstrap", "_frozen_importlib"}

_deferred: set[str] = set()
_lock = RLock()


def install(as_program: bool = False) -> None:
    """Defer these imports. It imports nothing itself.

    Args:
        as_program: Whether this process runs a stage or a command, and nothing else. Otherwise only
            torch._dynamo is deferred, because other programs could miss the rest: tensors on the
            device "meta" lack operations, detection networks have no export as ONNX, pyarrow
            converts no objects of pandas, and `mlflow.data` none.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    if as_program:
        _deferred.update((DEFERRED | DEFERRED_PACKAGES.keys()) - sys.modules.keys())
        if not any(isinstance(finder, _NoPandas) for finder in sys.meta_path):
            sys.meta_path.insert(0, _NoPandas())


class _Finder:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        is_user_of_dynamo = fullname in USERS_OF_DYNAMO and "torch._dynamo" not in sys.modules
        is_user_of_meta = META in _deferred and _may_use_meta(fullname)
        if fullname == META and not _torch_version().startswith(VERSIONS_WITH_META_APART):
            _deferred.discard(META)
        if fullname not in _deferred and not is_user_of_dynamo and not is_user_of_meta:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None:
            return None
        if fullname in DEFERRED_PACKAGES:
            if isinstance(spec.loader, SourceFileLoader):
                spec.loader = _PackageLoader(spec.loader.name, spec.loader.path)
            return spec
        if fullname in DEFERRED:
            return ModuleSpec(fullname, _DeferringLoader())  # type: ignore[arg-type]
        if isinstance(spec.loader, SourceFileLoader):
            kind = _LoaderWithStandIns if is_user_of_dynamo else _LoaderAfterMeta
            spec.loader = kind(spec.loader.name, spec.loader.path)
        return spec


def _torch_version() -> str:
    """Of the torch that is imported or being imported."""
    return str(getattr(sys.modules.get("torch"), "__version__", ""))


def _may_use_meta(name: str) -> bool:
    """Whether a module is an internal one of torch that is imported after torch itself.

    The compiler and all that runs operations on tensors without values is imported in this way.
    """
    if not name.startswith("torch.") or "._" not in name or name in WITHOUT_META:
        return False
    spec = getattr(sys.modules["torch"], "__spec__", None)
    return not getattr(spec, "_initializing", False)


# ---- modules that are imported when they are used ----


class _Deferred(ModuleType):
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # asked for by what looks at all modules, such as `inspect`
            raise AttributeError(name)
        return getattr(_import(self.__name__), name)


class _DeferringLoader:
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Deferred(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """The module stays empty."""
        if module.__name__ == META:
            _make_generators_usable()
        if module.__name__ == OPERATORS:
            module._register_custom_op = lambda: None  # type: ignore[attr-defined]


def _import(name: str) -> ModuleType:
    """The real module in the place of an empty one."""
    with _lock:
        if name in _deferred:
            _deferred.discard(name)
            empty = sys.modules.pop(name)
            empty.__dict__.update(importlib.import_module(name).__dict__)
        return sys.modules[name]


def _make_generators_usable() -> None:
    """Do the one thing of `META` that others than the compiler need."""
    import torch
    from torch._custom_class_base import CustomClassBaseMeta

    torch._C._set_generator_metaclass(CustomClassBaseMeta)


class _LoaderAfterMeta(SourceFileLoader):
    """`META` comes first, as it does where nothing is deferred; it may import the module itself."""

    def exec_module(self, module: ModuleType) -> None:
        del sys.modules[module.__name__]
        _import(META)
        if module.__name__ not in sys.modules:
            sys.modules[module.__name__] = module
            super().exec_module(module)


# ---- packages whose modules are imported without them ----


class _Package(ModuleType):
    def __getattr__(self, name: str) -> object:
        if self.__name__ in _deferred and not name.startswith("__"):
            module = DEFERRED_PACKAGES[self.__name__].get(name)
            if module is not None:
                return self._attribute(name, module)
            self._run()
            if name in self.__dict__:
                return self.__dict__[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def _attribute(self, name: str, module: str) -> object:
        value = importlib.import_module(f"{self.__name__}.{module}")
        return value if name == module else getattr(value, name)

    def _run(self) -> None:
        with _lock:
            if self.__name__ in _deferred:
                _deferred.discard(self.__name__)
                loader: Any = self.__loader__
                loader.run(self)


class _PackageLoader(SourceFileLoader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Package(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """The package stays empty, but has a path."""

    def run(self, module: ModuleType) -> None:
        """Run the package's code in place: others have its modules already."""
        super().exec_module(module)


# ---- pandas ----


class _NoPandas:
    """Hide pandas from packages that only ask whether something is one of its objects."""

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname == "pandas" and _is_without_pandas(_importer()):
            raise ModuleNotFoundError(fullname, name=fullname)


def _is_without_pandas(module: str) -> bool:
    if module.startswith("mlflow."):
        spec = getattr(sys.modules.get(DATASET_KINDS), "__spec__", None)
        return module == MLFLOW_EVALUATION or getattr(spec, "_initializing", False)
    return module.partition(".")[0] in WITHOUT_PANDAS


def _importer() -> str:
    """The name of the module that imports; for compiled code, of the module that calls it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals["__name__"] in MACHINERY:
        frame = frame.f_back
    return str(frame.f_globals["__name__"]) if frame is not None else ""


# ---- the compiler ----


class _LoaderWithStandIns(SourceFileLoader):
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
