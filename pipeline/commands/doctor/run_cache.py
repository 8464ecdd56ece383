"""DVC's run cache: what each run read and wrote, in files that are named by their content."""

from collections.abc import Iterator
from pathlib import Path


def find_damage(folder: Path) -> Iterator[Path]:
    """Records whose content is not what their name says.

    A record that is cut off but still YAML makes DVC restore only some outs of a stage.

    Args:
        folder: `runs` of the cache.
    """
    for path in sorted(folder.glob("??/*/*")):
        if not path.name.startswith(".") and not _is_sound(path):
            yield path


def _is_sound(path: Path) -> bool:
    """Source: `_get_cache_hash` in dvc/stage/cache.py."""
    from dvc.utils import dict_sha256
    from dvc.utils.serialize import ParseError, load_yaml

    try:
        record = load_yaml(str(path))
    except FileNotFoundError:  # removed meanwhile
        return True
    except ParseError:
        return False
    return isinstance(record, dict) and path.name == dict_sha256(record, exclude=["size", "nfiles"])
