"""What git knows of the project: revisions, and files as they were in them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import PipelineError
from pipeline.core.git import commit_of, git, text_at, try_git

METRICS = "reports/metrics.json"
PARAMS = "params.yaml"
WRITTEN = (PARAMS, "dvc.lock", METRICS, ".gitignore")
"""Files of git that a run itself changes."""


@dataclass(frozen=True)
class Revision:
    name: str
    """As people call it."""
    commit: str
    """In full."""

    @property
    def shown(self) -> str:
        return f"{self.name} ({self.commit[:7]})"

    def metrics(self) -> dict[str, Any]:
        """What the model of this revision was measured at.

        Raises:
            PipelineError: it has none, or they are damaged.
        """
        text = text_at(self.commit, METRICS)
        if text is None:
            raise PipelineError(f"{self.shown} has no {METRICS}: commit one with its dvc.lock")
        try:
            found = json.loads(text)
        except ValueError as error:
            raise PipelineError(f"{METRICS} of {self.shown} is no JSON: {error}") from error
        return found if isinstance(found, dict) else {}

    def params(self) -> dict[str, object]:
        """Values of params.yaml by dotted name; they need not be what this code knows.

        Raises:
            PipelineError: it has no params.yaml, or one that is no YAML.
        """
        text = text_at(self.commit, PARAMS)
        if text is None:
            raise PipelineError(f"{self.shown} has no {PARAMS}: commit the project's")
        return flat(text, f"{PARAMS} of {self.shown}")


def head() -> Revision:
    """The commit that is checked out.

    Raises:
        PipelineError: there is none.
    """
    commit = commit_of("HEAD")
    if commit is None:
        raise PipelineError(
            "there is no git commit here: run this in the project's folder, in a clone"
        )
    return Revision("HEAD", commit)


def revision(name: str) -> Revision:
    """A commit, tag or branch; a clone by a CI server has most branches as origin's alone.

    Raises:
        PipelineError: there is none of that name.
    """
    for each in (name, f"origin/{name}"):
        commit = commit_of(each)
        if commit is not None:
            return Revision(name, commit)
    raise PipelineError(
        f"git knows no revision {name} here: name another with --against, or fetch it "
        "(a shallow clone has one commit)"
    )


def changed() -> list[str]:
    """Files of git that differ from the commit, but for those that a run changes."""
    listed = try_git("diff", "--name-only", "-z", "HEAD", "--") or ""
    return sorted(set(listed.split("\0")) - {"", *WRITTEN})


def lock_changed() -> bool:
    """Whether dvc.lock is another than the commit's."""
    return bool(try_git("status", "--porcelain", "--", "dvc.lock"))


def experiment(name: str) -> str | None:
    """The commit of DVC's experiment of that name on the one that is checked out, if any."""
    return commit_of(_reference("exps", name))


def keep(name: str) -> bool:
    """Remember an experiment until it is forgotten, also through a kill; whether there is one."""
    commit = experiment(name)
    if commit is not None:
        git("update-ref", _reference("former-exps", name), commit)
    return commit is not None


def restore(name: str) -> None:
    """Let an experiment that is remembered be there again."""
    commit = commit_of(_reference("former-exps", name))
    if commit is not None:
        git("update-ref", _reference("exps", name), commit)
    forget(name)


def forget(name: str) -> None:
    git("update-ref", "-d", _reference("former-exps", name))


def _reference(kind: str, experiment: str) -> str:
    commit = head().commit
    return f"refs/{kind}/{commit[:2]}/{commit[2:]}/{experiment}"


def flat(text: str, source: str) -> dict[str, object]:
    """The values of a params file by dotted name.

    Raises:
        PipelineError: it is no YAML.
    """
    try:
        sections = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise PipelineError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    return {
        f"{section}.{key}": value
        for section, values in (sections if isinstance(sections, Mapping) else {}).items()
        if isinstance(values, Mapping)
        for key, value in values.items()
    }
