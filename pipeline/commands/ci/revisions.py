"""Git revisions, and params and metrics as they were in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import PipelineError
from pipeline.core.git import commit_of, git, text_at, try_git
from pipeline.experiments import metrics_json

METRICS = "reports/metrics.json"
PARAMS = "params.yaml"
RUN_OUTPUTS = (PARAMS, "dvc.lock", METRICS, ".gitignore")
"""Files in git that a run itself changes."""


@dataclass(frozen=True)
class Revision:
    name: str
    """As the user gave it: a branch, tag or commit."""
    commit: str
    """Full SHA."""

    @property
    def title(self) -> str:
        return f"{self.name} ({self.commit[:7]})"

    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json.

        Raises:
            PipelineError: the revision has none, or it is damaged.
        """
        text = text_at(self.commit, METRICS)
        if text is None:
            raise PipelineError(f"{self.title} has no {METRICS}: commit it with its dvc.lock")
        try:
            return metrics_json.parse(text)
        except ValueError as error:
            raise PipelineError(f"{METRICS} of {self.title} is not JSON: {error}") from error

    def params(self) -> dict[str, object]:
        """Values of params.yaml by dotted name; other versions of the code may have other keys.

        Raises:
            PipelineError: the revision has no params.yaml, or it is not YAML.
        """
        text = text_at(self.commit, PARAMS)
        if text is None:
            raise PipelineError(f"{self.title} has no {PARAMS}: commit the project's")
        return parse_flat_params(text, f"{PARAMS} of {self.title}")


def read_head() -> Revision:
    """The checked-out commit.

    Raises:
        PipelineError: there is none.
    """
    commit = commit_of("HEAD")
    if commit is None:
        raise PipelineError(
            "there is no git commit here: run this in the project's folder, in a clone"
        )
    return Revision("HEAD", commit)


def find_revision(name: str) -> Revision:
    """The revision of a commit, tag or branch; a CI server's clone has most branches only as
    origin/NAME.

    Raises:
        PipelineError: it does not exist.
    """
    for candidate in (name, f"origin/{name}"):
        commit = commit_of(candidate)
        if commit is not None:
            return Revision(name, commit)
    raise PipelineError(
        f"there is no git revision {name} here: name another with --against, or fetch it "
        "(a shallow clone has one commit)"
    )


def changed_files() -> list[str]:
    """Tracked files that differ from the commit, without those that a run changes."""
    listing = try_git("diff", "--name-only", "-z", "HEAD", "--") or ""
    return sorted(set(listing.split("\0")) - {"", *RUN_OUTPUTS})


def is_lock_changed() -> bool:
    """Whether dvc.lock differs from the commit's."""
    return bool(try_git("status", "--porcelain", "--", "dvc.lock"))


def find_experiment(name: str) -> str | None:
    """The commit of the DVC experiment of that name on the checked-out commit, if any."""
    return commit_of(_ref("exps", name))


def backup_experiment(name: str) -> bool:
    """Save an experiment in a ref of its own, which survives a kill; return whether it exists."""
    commit = find_experiment(name)
    if commit is not None:
        git("update-ref", _ref("former-exps", name), commit)
    return commit is not None


def restore_experiment(name: str) -> None:
    """Put back the experiment from its backup, if there is one."""
    commit = commit_of(_ref("former-exps", name))
    if commit is not None:
        git("update-ref", _ref("exps", name), commit)
    delete_backup(name)


def delete_backup(name: str) -> None:
    git("update-ref", "-d", _ref("former-exps", name))


def _ref(kind: str, experiment: str) -> str:
    commit = read_head().commit
    return f"refs/{kind}/{commit[:2]}/{commit[2:]}/{experiment}"


def parse_flat_params(text: str, source: str) -> dict[str, object]:
    """The values of a params file by dotted name.

    Args:
        source: Where the text is from, for the error message.

    Raises:
        PipelineError: it is not YAML.
    """
    try:
        sections = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise PipelineError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    return {
        f"{name}.{key}": value
        for name, section in (sections if isinstance(sections, Mapping) else {}).items()
        if isinstance(section, Mapping)
        for key, value in section.items()
    }
