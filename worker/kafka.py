"""The one place that turns settings into aiokafka arguments, and what aiokafka reads into our errors."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CorruptRecordException
from aiokafka.helpers import create_ssl_context

from worker.errors import ConfigurationError, LogError
from worker.settings import KafkaSettings


def connection(kafka: KafkaSettings) -> dict[str, Any]:
    """Arguments for any aiokafka client. Raises ConfigurationError when a credential is missing."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "client_id": kafka.client_id,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.endswith("SSL"):
        arguments["ssl_context"] = _ssl_context(kafka)
    if kafka.security_protocol.startswith("SASL"):
        if kafka.sasl_username is None or kafka.sasl_password_file is None:
            raise ConfigurationError("SASL needs INKLING_KAFKA__SASL_USERNAME and INKLING_KAFKA__SASL_PASSWORD_FILE")
        arguments["sasl_mechanism"] = kafka.sasl_mechanism
        arguments["sasl_plain_username"] = kafka.sasl_username
        arguments["sasl_plain_password"] = _secret(kafka.sasl_password_file, "SASL_PASSWORD_FILE")
    return arguments


@asynccontextmanager
async def admin_client(kafka: KafkaSettings, timeout_s: float = 40.0) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client for topics and groups. Raises KafkaError when no broker answers; `timeout_s` is for each request."""
    admin = AIOKafkaAdminClient(**connection(kafka), request_timeout_ms=int(timeout_s * 1000))
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


@contextmanager
def undamaged() -> Iterator[None]:
    """Around what reads records. Raises LogError where their checksum does not fit."""
    try:
        yield
    except CorruptRecordException as error:
        raise LogError(
            f"records in Kafka's log are damaged ({error}): let the broker take the partition from a replica, or move the group "
            "behind them by kafka-consumer-groups --reset-offsets"
        ) from error


def _ssl_context(kafka: KafkaSettings) -> ssl.SSLContext:
    if kafka.key_file is not None and kafka.cert_file is None:
        raise ConfigurationError("INKLING_KAFKA__KEY_FILE is the key of a certificate: set INKLING_KAFKA__CERT_FILE as well")
    # With no password at all OpenSSL would ask for one at the terminal, and wait.
    password = "" if kafka.key_password_file is None else _secret(kafka.key_password_file, "KEY_PASSWORD_FILE")
    try:
        context: ssl.SSLContext = create_ssl_context(
            cafile=_path(kafka.ca_file),
            certfile=_path(kafka.cert_file),
            keyfile=_path(kafka.key_file),
            password=password,
        )
    except OSError as error:
        raise ConfigurationError(f"cannot use INKLING_KAFKA__CA_FILE, CERT_FILE or KEY_FILE: {error}") from error
    return context


def _secret(path: Path, setting: str) -> str:
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read INKLING_KAFKA__{setting}: {error}") from error
    if not secret:
        raise ConfigurationError(f"INKLING_KAFKA__{setting} names an empty file: {path}")
    return secret


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)
