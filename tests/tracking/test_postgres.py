"""Addresses of PostgreSQL. tests/system/test_server.py has a real server."""

import pytest

from pipeline.tracking import postgres


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_an_address_as_people_write_it_gets_the_driver_and_limits_of_time(scheme: str) -> None:
    uri = postgres.with_driver(f"{scheme}://me:p%40ss@db.example.org/mlflow")
    assert uri.startswith(
        "postgresql+psycopg://me:p%40ss@db.example.org/mlflow?connect_timeout=10&"
    )
    assert "tcp_user_timeout=20000" in uri
    assert postgres.with_driver(uri) == uri


def test_what_an_address_says_itself_is_kept() -> None:
    uri = postgres.with_driver("postgresql+psycopg2://h/db?sslmode=require&connect_timeout=2")
    assert uri.startswith(
        "postgresql+psycopg2://h/db?sslmode=require&connect_timeout=2&keepalives_"
    )
    assert uri.count("connect_timeout=") == 1


def test_other_databases_are_none() -> None:
    assert not postgres.is_postgres("sqlite:///mlflow.db")
    assert not postgres.is_postgres("mysql+pymysql://h/db")
