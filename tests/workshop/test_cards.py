from dltlab.workshop.cards import sign_in_link, write_cards
from dltlab.workshop.roster import Member

MEMBERS = [
    Member("instructor01", "Ida", instructor=True),
    Member("learner01", "<script>alert(1)</script>", group="a & b"),
    Member("learner02", "عائشة"),
    Member("learner03", "Old"),
]
CODES = {"instructor01": "aaaa-bbbb-cccc", "learner01": "2222-3333-4444", "learner02": "5555"}


def test_cards_have_name_address_code_and_an_image_of_both(tmp_path):
    path = tmp_path / "cards.html"

    write_cards(path, "Deep <learning>", "https://lab.example.org", MEMBERS, CODES)

    page = path.read_text()
    assert page.count("<article>") == page.count("<svg") == 3
    assert "2222-3333-4444" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<bdi>عائشة</bdi>" in page
    assert "a &amp; b" in page
    assert "instructor" in page
    assert "Old" not in page
    assert "<script>" not in page
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_code_of_a_link_is_not_sent_by_the_browser():
    assert sign_in_link("https://x", "a-b") == "https://x/hub/login#a-b"
