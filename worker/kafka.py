"""The one place that turns settings into aiokafka arguments."""

import ssl
from typing import Any

from aiokafka.helpers import create_ssl_context

from worker.errors import ConfigurationError
from worker.settings import KafkaSettings


def connection(kafka: KafkaSettings) -> dict[str, Any]:
    """Arguments for any aiokafka client. Raises ConfigurationError when a credential is missing."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.endswith("SSL"):
        arguments["ssl_context"] = _ssl_context(kafka)
    if kafka.security_protocol.startswith("SASL"):
        if kafka.sasl_username is None or kafka.sasl_password_file is None:
            raise ConfigurationError("SASL needs INKLING_KAFKA__SASL_USERNAME and INKLING_KAFKA__SASL_PASSWORD_FILE")
        arguments["sasl_mechanism"] = kafka.sasl_mechanism
        arguments["sasl_plain_username"] = kafka.sasl_username
        arguments["sasl_plain_password"] = _secret(kafka)
    return arguments


def _ssl_context(kafka: KafkaSettings) -> ssl.SSLContext:
    password = kafka.key_password.get_secret_value() if kafka.key_password else None
    try:
        context: ssl.SSLContext = create_ssl_context(
            cafile=_path(kafka.ca_file),
            certfile=_path(kafka.cert_file),
            keyfile=_path(kafka.key_file),
            password=password,
        )
    except OSError as error:
        raise ConfigurationError(f"cannot read a TLS file of INKLING_KAFKA__: {error}") from error
    return context


def _secret(kafka: KafkaSettings) -> str:
    assert kafka.sasl_password_file is not None
    try:
        return kafka.sasl_password_file.read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"cannot read INKLING_KAFKA__SASL_PASSWORD_FILE: {error}") from error


def _path(path: object) -> str | None:
    return None if path is None else str(path)
