"""The page that verifies certificates, opened from disk without a network."""

import pytest
from playwright.sync_api import expect

from dltlab.workshop.certificate import (
    public_key,
    signing_key,
    write_certificate,
    write_verify_page,
)
from tests.deadlines import HANG_SECONDS

NAME = "<img src=x onerror=alert(1)> مريم"


@pytest.fixture
def certificates(tmp_path):
    """A folder with the page, a certificate of its key, one of another key, and a changed one."""
    key, other = signing_key(tmp_path / "a.key"), signing_key(tmp_path / "b.key")
    write_verify_page(tmp_path, public_key(key))
    for file, signer in (("own.pdf", key), ("other.pdf", other)):
        write_certificate(tmp_path / file, signer, name=NAME, evaluated="here", tasks=[])
    content = (tmp_path / "own.pdf").read_bytes()
    (tmp_path / "changed.pdf").write_bytes(content.replace(b"/Title", b"/Titel"))
    (tmp_path / "none.pdf").write_bytes(b"%PDF-1.4\n%%EOF\n")
    return tmp_path


def test_it_tells_genuine_foreign_and_changed_certificates_apart(browser, certificates):
    page = browser.new_page()
    expect.set_options(timeout=HANG_SECONDS * 1000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.goto((certificates / "verify.html").as_uri())
    result = page.get_by_role("status")
    for file, kind, sentence in (
        ("own.pdf", "good", "signed with the key that this page knows"),
        ("changed.pdf", "bad", "was changed after it was signed"),
        ("other.pdf", "unknown", "with a key that this page does not know"),
        ("none.pdf", "bad", "is not a certificate"),
    ):
        page.get_by_label("The certificate, a PDF").set_input_files(certificates / file)
        expect(result).to_contain_text(sentence)
        expect(result).to_have_class(kind)
        assert (NAME in result.inner_text()) == (kind != "bad")
    assert faults == []
