"""Models by the names that MLflow's registry gives them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import PipelineError
from pipeline.params import load_params

if TYPE_CHECKING:
    from pipeline.tracking.registry import Version

# @champion: of the data set in params.yaml. NAME@champion, or MLflow's models:/NAME@champion and
# models:/NAME/3. A folder may have an @ in its name, so the alias comes last and has no slash.
ADDRESS = re.compile(r"(?:models:/)?(?P<name>[^/:@]*)@(?P<alias>[A-Za-z][\w-]*)")
NUMBERED = re.compile(r"models:/(?P<name>[^/:@]+)/(?P<alias>\d+)")
PARAMS = Path("params.yaml")


def is_registered(address: str) -> bool:
    """Whether an address names a registered model, and no file or folder."""
    is_address = bool(ADDRESS.fullmatch(address) or NUMBERED.fullmatch(address))
    return is_address and not Path(address).exists()


def is_alias(address: str) -> bool:
    """Whether another model may have this address tomorrow."""
    return is_registered(address) and bool(ADDRESS.fullmatch(address))


def find_folder(address: str) -> Path:
    """The model folder at an address: a folder, or that of a registered model, fetched.

    Raises:
        PipelineError: no model is registered under this name, or MLflow cannot be reached.
    """
    return fetch(find_version(address)) if is_registered(address) else Path(address)


def find_version(address: str) -> "Version":
    """The version that the address of a registered model names now.

    Raises:
        PipelineError: no model is registered under this name, or MLflow cannot be reached.
    """
    match = ADDRESS.fullmatch(address) or NUMBERED.fullmatch(address)
    assert match is not None
    from pipeline.tracking import registry, store  # slow

    store.connect()
    name, alias = match["name"] or load_params(PARAMS).dataset.name, match["alias"]
    version = registry.find_version(name, alias) if store.exists() else None
    if version is None:
        raise PipelineError(
            f"MLflow at {store.address()} has no model {name}@{alias}: `pipeline promote` "
            "registers one as champion"
        )
    return version


def fetch(version: "Version") -> Path:
    """The model folder of a version, fetched once.

    Raises:
        PipelineError: MLflow cannot be reached, or has other files than the run recorded.
    """
    from pipeline.tracking import provenance, registry, store  # slow

    digest = store.get_run(version.run_id).data.tags.get(provenance.MODELS, "")
    return registry.model_folder(registry.fetch_model(version.model_id, digest))
