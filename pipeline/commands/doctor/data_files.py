"""DVC's cache, run cache and the outs in the workspace: what is damaged, and its repair."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.commands.doctor import cache_objects, run_cache, workspace
from pipeline.commands.doctor.cache_objects import Damage
from pipeline.commands.doctor.cache_users import OutFile, is_foreign, is_shared
from pipeline.commands.doctor.finding import Finding
from pipeline.commands.doctor.quarantine import Quarantine, isolate

ANEW = "`dvc repro` computes it, or `dvc pull` fetches it"


@dataclass(frozen=True)
class Quarantines:
    """Where damaged files go, each on the file system of what it takes; None: nothing moves."""

    cache: Quarantine | None = None
    project: Quarantine | None = None


def make_quarantines(repo: Any) -> Quarantines:
    """Those of a project; a folder is created with its first file."""
    objects = Path(repo.cache.local.path).resolve()  # the cache may be a link
    return Quarantines(
        Quarantine(objects.with_name("quarantine")), Quarantine(Path(repo.tmp_dir, "quarantine"))
    )


def examine_run_cache(repo: Any, places: Quarantines) -> Iterator[Finding]:
    """Records of runs."""
    for path in run_cache.find_damage(Path(repo.stage_cache.cache_dir)):
        yield isolate(
            f"{path}, a record of DVC's run cache, is damaged",
            path,
            f"runs/{path.name}",
            places.cache,
            "DVC makes it anew",
        )


def examine_objects(repo: Any, files: list[OutFile], places: Quarantines) -> Iterator[Finding]:
    """Objects in the cache; those of other projects in a shared cache are never moved."""
    for damage in cache_objects.find_damage(Path(repo.cache.local.path)):
        users = [file for file in files if file.name == damage.object.name]
        used_by = f" ({', '.join(str(file.path) for file in users[:3])})" if users else ""
        problem = f"{damage.object.path}{used_by} {damage.problem}"
        if not damage.is_permitted:
            yield Finding(problem, "run this as somebody who may read it")
        elif is_shared(repo) and is_foreign(repo, damage.object.name):
            yield Finding(
                problem,
                "no dvc.lock of this project has it, and the cache is shared: run `pipeline doctor "
                "--repair` in its project, or move it away by hand",
            )
        else:
            yield from _isolate_object(damage, problem, users, places)


def _isolate_object(
    damage: Damage, problem: str, users: list[OutFile], places: Quarantines
) -> Iterator[Finding]:
    """Its links in the workspace follow it, because DVC would take them for sound."""
    links = [file for file in users if workspace.is_link(file)]
    finding = isolate(problem, damage.object.path, damage.object.name, places.cache, ANEW)
    yield finding
    for file in links if finding.is_fixed else ():
        link = f"{file.path}, a link to it, {damage.problem}"
        yield isolate(link, file.path, str(file.path), places.project, ANEW)


def examine_workspace(repo: Any, files: list[OutFile], places: Quarantines) -> Iterator[Finding]:
    """Outs that are not links. What DVC itself notices may be somebody's work, and stays."""
    for file in workspace.find_differences(files):
        problem = f"{file.path} has other bytes than dvc.lock says"
        if workspace.is_unnoticed(repo, file):
            problem = f"{problem}, and DVC does not notice"
            yield isolate(problem, file.path, str(file.path), places.project, ANEW)
        else:
            yield Finding(problem, "`dvc repro` runs its stage, or `dvc checkout` restores it")
