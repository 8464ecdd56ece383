import sys

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from pipeline.tracking import store
from pipeline.tracking.missing_packages import describe_missing_package


@pytest.mark.parametrize(
    ("address", "package", "advice"),
    [
        ("s3://bucket/x", "boto3", "pip install '.[server]'"),
        ("gs://bucket/x", "google.cloud", "pip install '.[gs]'"),
        (
            "wasbs://box@account.blob.core.windows.net/x",
            "azure.storage.blob",
            "pip install azure-storage-blob azure-identity",
        ),
    ],
)
def test_artifacts_without_their_package_have_advice(
    monkeypatch: pytest.MonkeyPatch, address: str, package: str, advice: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    error = store.catch_error(lambda: get_artifact_repository(address).list_artifacts())
    assert error is not None
    assert store.describe_error(error) == f"{package} is not installed: {advice}"


@pytest.mark.parametrize(
    "error", [ImportError("broken"), ModuleNotFoundError(name="pipeline.other"), OSError("boto3")]
)
def test_other_errors_have_none(error: Exception) -> None:
    assert describe_missing_package(error) is None
