import ssl

import pytest

from dltlab.errors import NotFound
from dltlab.workshop.settings import Tls
from dltlab.workshop.tls import certificate_files


def test_without_encryption_there_are_no_files(folder):
    assert certificate_files(folder, Tls(), "localhost") is None


def test_a_certificate_is_made_once_and_anew_when_it_is_damaged(folder):
    settings = Tls(self_signed=True)

    files = certificate_files(folder, settings, "10.0.0.1")
    assert files
    certificate, key = files

    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    first = certificate.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    certificate_files(folder, settings, "10.0.0.1")
    assert certificate.read_bytes() == first
    certificate.write_text("x")
    certificate_files(folder, settings, "10.0.0.1")
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)


def test_own_files_are_relative_to_the_folder_and_must_exist(folder):
    settings = Tls(certificate="a.pem", key="b.key")
    (folder.path / "a.pem").touch()

    with pytest.raises(NotFound, match=r"b\.key, which 'tls\.key' in .*workshop\.toml names"):
        certificate_files(folder, settings, "localhost")
    (folder.path / "b.key").touch()
    files = certificate_files(folder, settings, "localhost")
    assert files == (folder.path / "a.pem", folder.path / "b.key")
