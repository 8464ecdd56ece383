"""compose.yaml: what it exposes, and that its versions and secrets are those of the documents.

Docker is not needed; `docker compose config` says more where it is installed.
"""

import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests import ROOT

TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = YAML(typ="safe", pure=True).load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
GUIDE = (ROOT / "docs/server.md").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_watched_and_reached_from_this_machine_alone(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":v?\d+\.\d+", service.get("image", "build:1.0"))
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_nobody_but_mlflow_is_exposed_and_it_asks_for_an_account() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["mlflow"]
    assert "--app-name=basic-auth" in SERVICES["mlflow"]["command"]


def test_the_packages_are_those_of_the_lock_file() -> None:
    packages = re.findall(r"([a-z0-9]+)(?:\[\w+\])?==([\d.]+)", TEXT)
    assert {name for name, _ in packages} == {"mlflow", "psycopg", "sqlalchemy", "boto3"}
    locked = (ROOT / "requirements.lock").read_text()
    for name, version in packages:
        assert f"\n{name}=={version} " in f"\n{locked}", name


def test_the_guide_makes_every_secret() -> None:
    wanted = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert wanted == set(re.findall(r"^(\w+)=.*\$\(openssl", GUIDE, re.MULTILINE))
    assert len(re.findall(r"\$\{", TEXT)) == len(re.findall(r"\$\{\w+:\?", TEXT))  # no default
    assert "/server.env" in (ROOT / ".gitignore").read_text().splitlines()
