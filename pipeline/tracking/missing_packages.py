"""What to do about a package that a store of MLflow's runs or artifacts needs."""

SERVER = "pip install '.[server]'"
REMEDIES = {  # by the first name of what is imported
    "boto3": SERVER,
    "botocore": SERVER,
    "psycopg": SERVER,
    "psycopg2": f"write postgresql:// in MLFLOW_TRACKING_URI, for the driver of {SERVER}",
    "google": "pip install '.[gs]'",
    "azure": "pip install azure-storage-blob azure-identity",
}


def describe_missing_package(error: BaseException) -> str | None:
    """What is not installed, and what to do; None for other errors."""
    if not isinstance(error, ImportError) or error.name is None:
        return None
    remedy = REMEDIES.get(error.name.partition(".")[0])
    return f"{error.name} is not installed: {remedy}" if remedy else None
