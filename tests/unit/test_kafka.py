"""Kafka arguments from settings: safe by default, and one clear line when a credential is missing."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from worker.errors import ConfigurationError
from worker.kafka import connection
from worker.settings import KafkaSettings

PASSWORD = "correct horse"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key, which is encrypted with PASSWORD."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-subj",
        "/CN=test",
        "-days",
        "1",
    ]
    output = ["-passout", f"pass:{PASSWORD}", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command, *output], check=True, capture_output=True)
    return cert, key


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    return path


def test_plaintext_needs_nothing_else() -> None:
    """Neither TLS nor credentials are made up."""
    assert connection(KafkaSettings(bootstrap_servers="a:1,b:2")) == {
        "bootstrap_servers": "a:1,b:2",
        "security_protocol": "PLAINTEXT",
        "client_id": "inkling",
    }


def test_sasl_password_is_read_from_its_file(password_file: Path) -> None:
    """Without the line end that editors leave."""
    arguments = connection(
        KafkaSettings(security_protocol="SASL_PLAINTEXT", sasl_username="ink", sasl_password_file=password_file)
    )
    assert arguments["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("ink", PASSWORD)
    assert "ssl_context" not in arguments


@pytest.mark.parametrize("missing", ["sasl_username", "sasl_password_file"])
def test_sasl_without_credentials_names_the_settings(missing: str, password_file: Path) -> None:
    """Both are needed; the message says so."""
    given = {"sasl_username": "ink", "sasl_password_file": password_file}
    del given[missing]
    with pytest.raises(ConfigurationError, match="INKLING_KAFKA__SASL_USERNAME and INKLING_KAFKA__SASL_PASSWORD_FILE"):
        connection(KafkaSettings(security_protocol="SASL_SSL", **given))


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_password_file_that_holds_none_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty or no text: stop with the setting's name, and not later at the broker."""
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    settings = KafkaSettings(security_protocol="SASL_PLAINTEXT", sasl_username="ink", sasl_password_file=path)
    with pytest.raises(ConfigurationError, match="INKLING_KAFKA__SASL_PASSWORD_FILE"):
        connection(settings)


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_tls_checks_certificate_and_host_name(protocol: str, password_file: Path) -> None:
    """There is no way to turn either off."""
    arguments = connection(KafkaSettings(security_protocol=protocol, sasl_username="ink", sasl_password_file=password_file))
    context = arguments["ssl_context"]
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_client_certificate_with_its_password_is_loaded(certificate: tuple[Path, Path], password_file: Path) -> None:
    """Mutual TLS: the key is decrypted with the password from its file, and the CA is trusted."""
    cert, key = certificate
    settings = KafkaSettings(security_protocol="SSL", ca_file=cert, cert_file=cert, key_file=key, key_password_file=password_file)
    context = connection(settings)["ssl_context"]
    assert context.cert_store_stats()["x509"] == 1


def test_encrypted_key_without_password_does_not_ask(certificate: tuple[Path, Path]) -> None:
    """OpenSSL would wait for someone to type it: stop instead."""
    cert, key = certificate
    with pytest.raises(ConfigurationError, match="KEY_FILE"):
        connection(KafkaSettings(security_protocol="SSL", cert_file=cert, key_file=key))


def test_key_without_certificate_is_refused(certificate: tuple[Path, Path]) -> None:
    """It would be left out without a word, and the broker would see no client certificate."""
    with pytest.raises(ConfigurationError, match="INKLING_KAFKA__CERT_FILE"):
        connection(KafkaSettings(security_protocol="SSL", key_file=certificate[1]))


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_unusable_ca_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Missing or damaged: one line with the settings' names."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="INKLING_KAFKA__CA_FILE"):
        connection(KafkaSettings(security_protocol="SSL", ca_file=path))


def test_errors_do_not_show_the_password(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    """A wrong key password is not repeated."""
    path = tmp_path / "password"
    path.write_text("wrong-horse")
    cert, key = certificate
    with pytest.raises(ConfigurationError) as caught:
        connection(KafkaSettings(security_protocol="SSL", cert_file=cert, key_file=key, key_password_file=path))
    assert "wrong-horse" not in str(caught.value)
