"""The certificate of a workshop's web server."""

import datetime
import ipaddress
import socket
from pathlib import Path

from dltlab.errors import NotFound
from dltlab.paths import short_path
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.settings import Tls

_VALID = datetime.timedelta(days=90)
_RENEW = datetime.timedelta(days=7)


def certificate_files(folder: WorkshopFolder, settings: Tls, host: str) -> tuple[Path, Path] | None:
    """Return the files of the certificate and its key, or None without encryption.

    A self-signed certificate is made where there is none that is valid for another week.

    Args:
        folder: Of the workshop.
        settings: The table `[tls]`.
        host: The name or address that people type.

    Raises:
        NotFound: A file is missing.
    """
    if settings.certificate and settings.key:
        files = folder.path / settings.certificate, folder.path / settings.key
        for key, path in zip(("certificate", "key"), files, strict=True):
            if not path.is_file():
                raise NotFound(
                    f"There is no file {short_path(path)}, which 'tls.{key}' in "
                    f"{short_path(folder.settings_file)} names."
                )
        return files
    if not settings.self_signed:
        return None
    certificate, key_file = folder.keys / "tls.pem", folder.keys / "tls.key"
    if not _is_valid(certificate):
        _make(certificate, key_file, host)
    return certificate, key_file


def _is_valid(certificate: Path) -> bool:
    from cryptography import x509

    try:
        ends = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return False
    return ends > datetime.datetime.now(datetime.UTC) + _RENEW


def _make(certificate: Path, key_file: Path, host: str) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dltlab workshop")])
    hosts: list[x509.GeneralName] = []
    for text in {host, socket.gethostname(), "localhost", "127.0.0.1"}:
        try:
            hosts.append(x509.IPAddress(ipaddress.ip_address(text)))
        except ValueError:
            hosts.append(x509.DNSName(text))
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_file.touch(0o600)
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    certificate.write_bytes(built.public_bytes(serialization.Encoding.PEM))
