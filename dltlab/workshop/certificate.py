"""Certificates: a PDF signed with Ed25519, and how it is verified.

After the PDF follows a line, a comment for PDF readers, with what is certified, the signature and
the public key. What is certified holds the hash of the PDF before that line, so that no byte of the
file can be changed.
"""

import base64
import hashlib
import io
import json
import os
import re
import unicodedata
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dltlab.errors import Damaged, NotFound, Unavailable
from dltlab.files import cannot_write, write_atomically
from dltlab.paths import progress_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from dltlab.checks.assessment import AssessmentResult

VERIFY_PAGE = "verify.html"
OWN_MACHINE = "on the learner's own machine"

_FONT = "DejaVu Sans"  # comes with matplotlib
_MARK = b"\n%dltlab-certificate "
_CONTEXT = b"dltlab certificate 1\n"  # a signature of anything else is none of a certificate
_LINE = re.compile(rb"\n%dltlab-certificate ([\w+/=]+) ([\w+/=]+) ([\w+/=]+)\n", re.ASCII)
_END = re.compile(rb"startxref\s+(\d+)\s+%%EOF\s*\Z")


@dataclass(frozen=True)
class Certified:
    """What a certificate states, once its signature is verified.

    Attributes:
        name: The learner's name.
        title: What was passed.
        day: The date of issue, as in "2026-11-29".
        evaluated: Where the answers were evaluated.
        tasks: For each task its name, mean score, the reference's, unit and share.
        key: The public key that has signed it, in base64.
        is_trusted: Whether that is one of the keys that the caller trusts; None where none was
            given.
    """

    name: str
    title: str
    day: str
    evaluated: str
    tasks: tuple[Mapping[str, Any], ...]
    key: str
    is_trusted: bool | None

    def __str__(self) -> str:
        shares = ", ".join(f"{task['task']} {task['share']:.3f}" for task in self.tasks)
        signer = {
            True: "signed with a key that you trust",
            False: "but signed with another key than you trust",
            None: "signed",
        }[self.is_trusted]
        return (
            f"The certificate is unchanged, {signer} ({fingerprint(self.key)}): {self.name} passed "
            f"{self.title} on {self.day}, evaluated {self.evaluated} ({shares})."
        )


def certify_here(result: "AssessmentResult", name: str, folder: Path) -> Path | None:
    """Write a certificate, signed with this machine's key, and the page that verifies it.

    Args:
        result: Of the assessment.
        name: The learner's name.
        folder: Where `certificate.pdf` and `verify.html` are written.

    Returns:
        The path of the certificate; None where the assessment is not passed.

    Raises:
        Unavailable: The package cryptography is missing, or a file cannot be written.
    """
    if not result.passed:
        return None
    key = signing_key(progress_file().with_name("certificate.key"))
    path = folder / "certificate.pdf"
    write_certificate(path, key, name=name, evaluated=OWN_MACHINE, tasks=task_rows(result))
    write_verify_page(folder, public_key(key))
    return path


def task_rows(result: "AssessmentResult") -> list[dict[str, Any]]:
    """Return what a certificate states of each task."""
    return [
        {
            "task": task.task,
            "unit": task.unit,
            "score": round(sum(task.scores) / len(task.scores), 4),
            "reference": round(sum(task.reference_scores) / len(task.reference_scores), 4),
            "share": round(task.share, 3),
            "evaluations": len(task.scores),
        }
        for task in result.tasks
    ]


def write_certificate(
    path: Path,
    key: "Ed25519PrivateKey",
    *,
    name: str,
    evaluated: str,
    tasks: list[dict[str, Any]],
    title: str = "dltlab, lab 18: assessment",
    account: str = "",
) -> None:
    """Write a signed certificate.

    The name is drawn with whatever installed fonts have its letters. Where none has, the page shows
    the account instead, and says so; what is signed always has the name.

    Args:
        path: The PDF file.
        key: Of the one who certifies.
        name: The learner's name.
        evaluated: Where the answers were evaluated.
        tasks: For each, `task`, `unit`, `score`, `reference`, `share` and `evaluations`.
        title: What was passed.
        account: The learner's, shown where no font has the letters of the name.

    Raises:
        Unavailable: The file cannot be written.
    """
    statement: dict[str, Any] = {
        "name": name,
        "title": title,
        "day": date.today().isoformat(),
        "evaluated": evaluated,
        "tasks": tasks,
    }
    body = _pdf(statement, fingerprint(public_key(key)), account)
    statement["pdf_sha256"] = hashlib.sha256(body).hexdigest()
    payload = json.dumps(statement, ensure_ascii=False, sort_keys=True).encode()
    parts = (payload, key.sign(_CONTEXT + payload), base64.b64decode(public_key(key)))
    line = _MARK + b" ".join(map(base64.b64encode, parts)) + b"\n"
    write_atomically(path, body + line + _end(body))


def verify_certificate(path: Path, trusted: tuple[str, ...] = ()) -> Certified:
    """Verify a certificate, and return what it states.

    Args:
        path: The PDF file.
        trusted: The public keys, in base64, that certificates may be signed with; without them any
            key may have signed it, and only a change of the file is detected.

    Raises:
        NotFound: There is no such file.
        Damaged: It is no certificate, or was changed.
        Unavailable: The package cryptography is missing.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotFound(f"{path} cannot be read ({error.strerror}).") from error
    lines = list(_LINE.finditer(content))
    if len(lines) != 1:
        raise Damaged(f"{path} is not a certificate of dltlab: it has no signature.")
    (line,) = lines
    body, rest = content[: line.start()], content[line.end() :]
    try:
        payload, signature, key = (base64.b64decode(part, validate=True) for part in line.groups())
        _verify(key, signature, _CONTEXT + payload)
        statement = json.loads(payload)
        if hashlib.sha256(body).hexdigest() != statement.pop("pdf_sha256") or rest != _end(body):
            raise ValueError("the PDF differs from the one that was signed")
        public = base64.b64encode(key).decode()
        tasks = tuple(statement.pop("tasks"))
        is_trusted = public in trusted if trusted else None
        return Certified(**statement, tasks=tasks, key=public, is_trusted=is_trusted)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Damaged(
            f"{path} was changed after it was signed, or its signature is not genuine ({error})."
        ) from error


def signing_key(path: Path) -> "Ed25519PrivateKey":
    """Return the private key in a file that only its owner can read; make it where it is missing.

    Raises:
        Unavailable: The package cryptography is missing, or the file cannot be read or written.
        Damaged: The file holds no such key.
    """
    serialization, ed25519 = _cryptography()
    try:
        with suppress(FileExistsError):
            _create(path, ed25519.Ed25519PrivateKey.generate(), serialization)
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise cannot_write(path, error) from error
    except ValueError as error:
        raise Damaged(
            f"{path} is not a private key; move it away, and a new one is made."
        ) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise Damaged(f"{path} is not an Ed25519 key; move it away, and a new one is made.")
    return cast("Ed25519PrivateKey", key)


def public_key(key: "Ed25519PrivateKey") -> str:
    """Return the public key, in base64."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def fingerprint(key: str) -> str:
    """Return 16 hexadecimal digits of the hash of a public key, for people to compare."""
    digits = hashlib.sha256(base64.b64decode(key)).hexdigest()[:16]
    return "-".join(re.findall("....", digits))


def write_verify_page(folder: Path, *trusted: str) -> Path:
    """Write the page that verifies certificates without a network, and knows the public keys.

    Raises:
        Unavailable: The file cannot be written.
    """
    template = Path(__file__).with_name(VERIFY_PAGE).read_text()
    path = folder / VERIFY_PAGE
    write_atomically(path, template.replace("/*TRUSTED*/", json.dumps(trusted)[1:-1]))
    return path


def _create(path: Path, key: "Ed25519PrivateKey", serialization: Any) -> None:
    """Write a key; raise `FileExistsError` where the file exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    try:
        with os.fdopen(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
        ) as file:
            file.write(pem)
        os.link(temporary, path)  # fails where another process was faster
    finally:
        temporary.unlink(missing_ok=True)


def _verify(key: bytes, signature: bytes, message: bytes) -> None:
    """Raise `ValueError` unless the signature is genuine."""
    _, ed25519 = _cryptography()
    from cryptography.exceptions import InvalidSignature

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature as error:
        raise ValueError("the signature does not fit") from error


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise Unavailable(
            "Certificates need the package cryptography: pip install 'dltlab[workshop]'"
        ) from error
    return serialization, ed25519


def _end(body: bytes) -> bytes:
    """Return the end of a PDF once more: readers look for it in the last bytes of a file."""
    match = _END.search(body)
    if not match:
        raise ValueError("the PDF has no end")
    return b"startxref\n" + match[1] + b"\n%%EOF\n"


def _pdf(statement: Mapping[str, Any], signer: str, account: str) -> bytes:
    """Draw the certificate on a landscape A4 page."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from dltlab.display import NEUTRAL, PALETTE

    name = statement["name"]
    has_fonts = bool(_fonts_for(name))
    with mpl.rc_context({"pdf.fonttype": 42, "text.parse_math": False}):
        figure = Figure(figsize=(11.69, 8.27))

        def write(y: float, text: str, size: float, color: str = "black", **style: Any) -> None:
            style = {"family": _fonts_for(text) or [_FONT]} | style
            figure.text(0.5, y, text, size=size, color=color, ha="center", va="center", **style)

        write(0.85, "Certificate", 38, PALETTE[0], weight="bold")
        write(0.76, "This certifies that", 14, NEUTRAL)
        shown = name if has_fonts else account or "the learner whose name is signed"
        weight = "bold" if _fonts_for(shown) == [_FONT] else "normal"  # others may have no bold
        write(0.67, shown, max(10, min(30, 30 * 40 / max(len(shown), 1))), weight=weight)
        write(0.58, f"has passed {statement['title']}", 16)
        write(0.53, f"on {statement['day']}, evaluated {statement['evaluated']}.", 14)
        for row, task in enumerate(statement["tasks"]):
            score = f"{_score(task['score'])} {task['unit']}, {task['share']:.3f}"
            mean = f"mean of {task['evaluations']} evaluations"
            write(0.43 - 0.045 * row, f"{task['task']}: {score} of the reference ({mean})", 13)
        if not has_fonts:
            write(0.2, "No font here has every letter of the name. The signed text has it.", 11)
        write(0.16, f"Signed with the Ed25519 key {signer}", 11, NEUTRAL, family="monospace")
        write(
            0.12,
            f"Verify this file: dltlab workshop verify FILE, or open {VERIFY_PAGE}.",
            11,
            NEUTRAL,
        )
        frame = mpl.patches.Rectangle(
            (0.03, 0.04), 0.94, 0.92, fill=False, color=PALETTE[0], linewidth=3
        )
        figure.add_artist(frame)
        content = io.BytesIO()
        with warnings.catch_warnings():  # of letters that no font has, as in a workshop's title
            warnings.simplefilter("ignore")
            figure.savefig(content, format="pdf", metadata={"Title": f"Certificate of {name}"})
    return content.getvalue()


@cache
def _fonts_for(text: str) -> list[str]:
    """Return the names of fonts that have every letter of a text; none where a letter has none."""
    from matplotlib import font_manager

    def letters_of(path: str) -> set[int]:
        return set(font_manager.get_font(path).get_charmap())

    fonts = [_FONT]
    needed = {ord(letter) for letter in text if unicodedata.category(letter)[0] not in "CZ"}
    missing = needed - letters_of(font_manager.findfont(_FONT))
    for path in sorted(font_manager.findSystemFonts()) if missing else ():
        with suppress(OSError, RuntimeError):  # a font that is damaged, or made of images
            if missing & (letters := letters_of(path)):
                font_manager.fontManager.addfont(path)
                fonts.append(font_manager.get_font(path).family_name)
                missing -= letters
    return [] if missing else fonts


def _score(score: float) -> str:
    return f"{score:.3f}" if score < 10 else f"{score:,.0f}"
