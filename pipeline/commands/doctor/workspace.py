"""The outs in the workspace: which of their files are not what dvc.lock says."""

from collections.abc import Collection, Iterator
from typing import Any

from pipeline.commands.doctor.cache_users import OutFile
from pipeline.core import dvc_lock, progress


def is_link(file: OutFile) -> bool:
    """Whether a file is a hard or symbolic link to its object in the cache."""
    try:
        return file.path.samefile(file.object)
    except FileNotFoundError:  # not in the cache, or not in the workspace
        return False


def find_differences(files: Collection[OutFile]) -> Iterator[OutFile]:
    """Files with other bytes than dvc.lock says.

    Missing files are not a difference, and links are left out: their bytes are those of the cache.
    """
    with progress.bar("workspace", len(files), "file") as bar:
        for file in files:
            bar.update()
            is_own = file.path.is_file() and not is_link(file)
            if is_own and dvc_lock.digest(file.path) != file.name:
                yield file


def is_unnoticed(repo: Any, file: OutFile) -> bool:
    """Whether DVC takes a file for what dvc.lock says.

    DVC remembers the md5 of a file, and trusts it while inode, time and size stay the same.
    """
    _, hash_info = repo.state.get(str(file.path.absolute()), repo.cache.local.fs)
    return bool(hash_info and hash_info.value == file.name)
