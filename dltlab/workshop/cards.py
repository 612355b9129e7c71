"""The cards that are printed for people: name, address, code, and both as a QR code."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import segno
from jinja2 import Environment, FileSystemLoader

from dltlab.files import write_atomically
from dltlab.workshop.roster import Member

_TEMPLATES = Path(__file__).with_name("templates")


def write_cards(
    path: Path, title: str, url: str, members: Sequence[Member], codes: Mapping[str, str]
) -> None:
    """Write the cards of those who have a code in `codes`, as one HTML page to print.

    Args:
        path: The file, readable by its owner only.
        title: Of the workshop.
        url: Where people sign in, without a slash at the end.
        members: Of the workshop.
        codes: The new codes by account.
    """
    cards = [
        {
            "name": member.name,
            "group": member.group or ("instructor" if member.instructor else ""),
            "code": codes[member.account],
            "image": segno.make(sign_in_link(url, codes[member.account]), micro=False).svg_inline(
                scale=3, border=0
            ),
        }
        for member in members
        if member.account in codes
    ]
    page = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True).get_template(
        "cards.html"
    )
    path.touch(0o600)
    write_atomically(path, page.render(title=title, url=url, cards=cards))


def sign_in_link(url: str, code: str) -> str:
    """Return the link that fills in a code.

    The code is in the fragment, which browsers do not send: no server and no log sees it before the
    person presses the button.
    """
    return f"{url}/hub/login#{code}"
