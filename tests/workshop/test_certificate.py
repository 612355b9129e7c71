import base64
import json
import re
import stat
import zlib
from contextlib import suppress
from types import SimpleNamespace

import pytest
from fontTools.fontBuilder import FontBuilder  # type: ignore[import-untyped]
from fontTools.pens.ttGlyphPen import TTGlyphPen  # type: ignore[import-untyped]
from matplotlib import font_manager

from dltlab.errors import Damaged, NotFound
from dltlab.workshop.certificate import (
    OWN_MACHINE,
    certify_here,
    fingerprint,
    public_key,
    signing_key,
    verify_certificate,
    write_certificate,
)

TASKS = [
    {
        "task": "classify_galaxies",
        "unit": "accuracy",
        "score": 0.95,
        "reference": 0.96,
        "share": 0.99,
        "evaluations": 5,
    }
]


@pytest.fixture
def key(tmp_path):
    return signing_key(tmp_path / "keys" / "signing.key")


@pytest.fixture
def certificate(tmp_path, key):
    path = tmp_path / "certificate.pdf"
    write_certificate(path, key, name="Zoë O'Neil", evaluated="in the workshop", tasks=TASKS)
    return path


def test_a_certificate_states_what_was_signed(certificate, key):
    certified = verify_certificate(certificate)

    assert certified.name == "Zoë O'Neil"
    assert certified.evaluated == "in the workshop"
    assert certified.tasks == tuple(TASKS)
    assert certified.key == public_key(key)
    assert certified.is_trusted is None
    assert fingerprint(certified.key) in str(certified)


def test_it_is_a_pdf_that_begins_and_ends_as_one(certificate):
    content = certificate.read_bytes()

    assert content.startswith(b"%PDF-")
    assert content.endswith(b"%%EOF\n")
    assert content.count(b"startxref") == 2
    offsets = [part.split()[0] for part in content.split(b"startxref")[1:]]
    assert len(set(offsets)) == 1


def test_every_changed_byte_is_detected(certificate, tmp_path):
    content = certificate.read_bytes()
    changed = tmp_path / "changed.pdf"
    mark = content.index(b"%dltlab-certificate")
    for place in (10, len(content) // 3, mark - 2, mark + 40, mark + 200, len(content) - 8):
        changed.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(Damaged):
            verify_certificate(changed)


def test_nothing_can_be_appended(certificate):
    certificate.write_bytes(certificate.read_bytes() + b"\nstartxref\n1\n%%EOF\n")

    with pytest.raises(Damaged, match="was changed after it was signed"):
        verify_certificate(certificate)


def test_a_signature_of_another_statement_does_not_fit(certificate, key):
    content = certificate.read_bytes()
    payload = content.split(b"%dltlab-certificate ")[1].split()[0]
    forged = base64.b64encode(base64.b64decode(payload).replace(b"Zo", b"Bo"))
    certificate.write_bytes(content.replace(payload, forged))

    with pytest.raises(Damaged, match="the signature does not fit"):
        verify_certificate(certificate)


def test_a_genuine_signature_of_something_else_is_damaged_not_a_crash(certificate, key):
    payload = json.dumps([1]).encode()
    signature = key.sign(b"dltlab certificate 1\n" + payload)
    public = base64.b64decode(public_key(key))
    line = b" ".join(map(base64.b64encode, (payload, signature, public)))
    certificate.write_bytes(b"%PDF-\n%dltlab-certificate " + line + b"\n")

    with pytest.raises(Damaged):
        verify_certificate(certificate)


def test_a_key_that_is_not_trusted_is_told_apart(certificate, key, tmp_path):
    other = public_key(signing_key(tmp_path / "other.key"))

    assert verify_certificate(certificate, (public_key(key), other)).is_trusted
    verified = verify_certificate(certificate, (other,))
    assert verified.is_trusted is False
    assert "signed with another key" in str(verified)


def test_other_files_are_no_certificates(tmp_path):
    (tmp_path / "plain.pdf").write_bytes(b"%PDF-1.4\n%%EOF\n")

    with pytest.raises(Damaged, match="not a certificate"):
        verify_certificate(tmp_path / "plain.pdf")
    with pytest.raises(NotFound, match="cannot be read"):
        verify_certificate(tmp_path / "missing.pdf")


def test_the_key_is_made_once_and_only_its_owner_can_read_it(tmp_path, key):
    path = tmp_path / "keys" / "signing.key"

    assert public_key(signing_key(path)) == public_key(key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["signing.key"]


def test_a_file_that_is_no_key_is_left_alone(tmp_path):
    path = tmp_path / "signing.key"
    path.write_text("something else")

    with pytest.raises(Damaged, match="not a private key"):
        signing_key(path)
    assert path.read_text() == "something else"


@pytest.mark.parametrize("name", ["x" * 200, "$a$ \\frac", "مريم", "王小明", "=1+1", "<b>"])
def test_any_name_is_certified_as_it_is(tmp_path, key, name):
    path = tmp_path / "certificate.pdf"
    write_certificate(path, key, name=name, evaluated=OWN_MACHINE, tasks=TASKS)

    assert verify_certificate(path).name == name


@pytest.fixture
def certified_text(tmp_path, key):
    """Return a function that certifies a name, and returns the letters and the fonts of the page.

    Letters that a font has beyond the first 256 are left out.
    """

    def certify(name):
        path = tmp_path / "certificate.pdf"
        write_certificate(
            path, key, name=name, evaluated=OWN_MACHINE, tasks=TASKS, account="learner07"
        )
        content, page = path.read_bytes(), b""
        for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL):
            with suppress(zlib.error):
                page += zlib.decompress(stream)
        letters = b"".join(re.findall(rb"\(\x00(.)\)", page)).decode("latin-1")
        return letters, set(re.findall(r"/BaseFont /\w+\+(\S+)", content.decode("latin-1")))

    return certify


def font_of(letter, family, path):
    """Write a font with one letter, a square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(corner)
    pen.closePath()
    names = [".notdef", "letter"]
    font = FontBuilder(1000)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(letter): "letter"})
    font.setupGlyf(dict.fromkeys(names, pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": family, "styleName": "Regular", "psName": family})
    font.setupOS2()
    font.setupPost()
    font.save(path)


def test_letters_that_the_usual_font_lacks_are_drawn_with_an_installed_one(
    certified_text, monkeypatch, tmp_path
):
    font_of("꙳", "Stars", tmp_path / "stars.ttf")
    (tmp_path / "damaged.ttf").write_text("no font")
    files = [str(tmp_path / name) for name in ("damaged.ttf", "stars.ttf")]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: files)

    letters, fonts = certified_text("A ꙳")

    assert "Stars" in fonts
    assert "learner07" not in letters


def test_a_name_that_no_font_can_draw_is_replaced_by_the_account(certified_text, monkeypatch):
    monkeypatch.setattr(font_manager, "findSystemFonts", list)

    letters, _ = certified_text("王小明")

    assert "learner07" in letters
    assert "Nofonthere" in letters.replace(" ", "")


def result(*, passed):
    task = SimpleNamespace(
        task="read_morse",
        unit="accuracy",
        scores=(0.9, 0.8),
        reference_scores=(0.9, 0.9),
        share=0.944,
    )
    return SimpleNamespace(passed=passed, tasks=(task,))


def test_a_learner_certifies_what_is_passed_on_their_own_machine(tmp_path):
    path = certify_here(result(passed=True), "Ada", tmp_path)

    assert path is not None
    certified = verify_certificate(path)
    assert certified.evaluated == OWN_MACHINE
    assert certified.tasks[0]["score"] == 0.85
    assert certified.key in (tmp_path / "verify.html").read_text()
    assert certify_here(result(passed=False), "Ada", tmp_path / "other") is None
    assert not (tmp_path / "other").exists()
