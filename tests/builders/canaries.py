"""Secrets in every variable that the project or its libraries read, and the search for them."""

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path

CANARY = "cAnArY0secret"  # a word that nothing else contains
USER = f"bob:{CANARY}"

SECRETS = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN"),
    *("DATABRICKS_TOKEN", "FLICKR_API_KEY", "FLICKR_API_SECRET", "GH_TOKEN", "GITHUB_TOKEN"),
    *("GOOGLE_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MLFLOW_FLASK_SERVER_SECRET_KEY"),
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME"),
    *("OPENAI_API_KEY", "PGPASSWORD", "PIPELINE_KEY_PASSWORD", "PIPELINE_SERVE_TOKEN"),
    *("RAY_AUTH_TOKEN", "SSH_ASKPASS_PASSWORD"),
)
ADDRESSES = (
    *("AWS_ENDPOINT_URL", "FLICKR_API_URL", "MLFLOW_S3_ENDPOINT_URL"),
    *("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "http_proxy", "https_proxy"),
)
# Where results go or come from: a wrong one is an error, which must not quote it.
PLACES = (
    *("MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_DEFAULT_ARTIFACT_ROOT", "MLFLOW_TRACKING_URI"),
    *("PIPELINE_CACHE", "PIPELINE_CLUSTER"),
)
# A working run has these in its environment.
ENVIRONMENT = dict.fromkeys(SECRETS, CANARY) | dict.fromkeys(
    ADDRESSES, f"http://{USER}@127.0.0.1:9"
)


def find(folder: Path, ignored: Mapping[str, str] | None = None) -> list[str]:
    """The files below a folder that contain the canary in their name or their bytes.

    Args:
        ignored: Files, relative to the folder, in which a user has written it, with a reason.
    """
    files = (path for path in sorted(folder.rglob("*")) if not path.is_symlink())
    names = [str(path.relative_to(folder)) for path in files if _has_canary(path)]
    return [name for name in names if name not in (ignored or {})]


def _has_canary(path: Path) -> bool:
    contents = path.read_bytes() if path.is_file() else b""
    return CANARY in path.name or any(form in contents for form in _forms())


def _forms() -> Iterator[bytes]:
    """As it is, in UTF-16, and in the header of a request; the last without the padded ends."""
    yield CANARY.encode()
    yield CANARY.encode("utf-16-le")
    for user in (USER, f"{CANARY}:{CANARY}"):
        yield base64.b64encode(user.encode())[:-4]
