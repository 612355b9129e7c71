import pytest

from dltlab.errors import Damaged, Invalid, NotFound
from dltlab.workshop.roster import Person, enroll, read_members, read_roster

PEOPLE = [Person("Ada", "ada@example.org", "a"), Person("Grace"), Person("Alan", group="b")]


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read a roster that has a text."""
    monkeypatch.chdir(tmp_path)

    def read(text, encoding="utf-8"):
        path = tmp_path / "roster.csv"
        path.write_text(text, encoding=encoding)
        return read_roster(path)

    return read


def accounts(members):
    return {m.name: m.account for m in members if m.enrolled and not m.instructor}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_roster_may_come_from_any_spreadsheet(read, delimiter, encoding):
    lines = ["Name,EMail,Group", "Ada,ada@example.org,a", "", " Grace ,,", "Alan,,b"]
    text = "\r\n".join(lines).replace(",", delimiter).replace("EMail", "email")

    assert read(text, encoding) == PEOPLE


def test_names_of_any_script_and_content_are_kept(read):
    names = ["=HYPERLINK(1)", "عائشة", "Æ" * 200, "Smith, John", "<script>alert(1)</script>"]
    text = "name\n" + "\n".join(f'"{name}"' for name in names)

    assert [person.name for person in read(text)] == names


def test_every_fault_is_named_with_its_line(read):
    with pytest.raises(Invalid) as error:
        read(
            "name,email\n"
            "Ada,ada@example.org\n"
            ",x@example.org\n"
            "Grace,grace\n"
            "Eve,ADA@example.org\n"
            f"{'x' * 201},\n"
            "a\u202eb,\n"
            "Ada,\n"
            "a,b,c\n"
            "Ada,other@example.org\n"
        )

    assert str(error.value).splitlines() == [
        "roster.csv:3: The name is missing.",
        "roster.csv:4: 'grace' is not an e-mail address. Correct it or leave it out.",
        "roster.csv:5: The e-mail address ADA@example.org is in line 2, too.",
        "roster.csv:6: The name has 201 characters; at most 200 are allowed.",
        "roster.csv:7: The name contains a control character. Type it anew.",
        "roster.csv:8: The name Ada is in line 2, too. Remove a line, or give both an e-mail "
        "address.",
        "roster.csv:9: There are 3 values for 2 columns. Quote the commas.",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "roster.csv:1: The first line must name the columns: name,email,group."),
        ("Ada,Grace\n", "roster.csv:1: The first line must name the columns"),
        ("name,name\n", "roster.csv:1: The first line must name the columns"),
        ("name\n", "roster.csv:2: The roster has no people"),
        ('name\n"Ada\n', "roster.csv:2: Not CSV"),
    ],
)
def test_a_roster_without_people_is_refused(read, text, message):
    with pytest.raises(Invalid) as error:
        read(text)

    assert str(error.value).startswith(message)


def test_a_roster_that_is_missing_or_not_utf_8_is_refused(read, tmp_path):
    with pytest.raises(Invalid, match="save it as CSV in UTF-8"):
        read("name\nJosé\n", "latin-1")
    with pytest.raises(NotFound, match=r"There is no roster none\.csv"):
        read_roster(tmp_path / "none.csv")


def test_people_keep_their_accounts_when_the_roster_changes(folder):
    before = accounts(enroll(folder, PEOPLE, [Person("Instructor")]))
    changed = [
        Person("New"),
        Person("ALAN", "alan@example.org"),
        Person("Ada Lovelace", "ADA@example.org"),
    ]

    after = accounts(enroll(folder, changed, [Person("Instructor")]))

    assert before == {"Ada": "learner01", "Grace": "learner02", "Alan": "learner03"}
    assert after == {"New": "learner04", "ALAN": "learner03", "Ada Lovelace": "learner01"}


def test_a_person_who_leaves_and_returns_has_the_same_account(folder):
    enroll(folder, PEOPLE, [Person("Instructor")])
    members = enroll(folder, PEOPLE[:1], [Person("Instructor")])
    assert [m.account for m in members if not m.enrolled] == ["learner02", "learner03"]

    assert accounts(enroll(folder, PEOPLE[::-1], [Person("Instructor")]))["Grace"] == "learner02"


def test_an_instructor_and_a_learner_of_the_same_name_have_two_accounts(folder):
    members = enroll(folder, [Person("Ada")], [Person("Ada"), Person("Alan")])

    assert [m.account for m in members] == ["instructor01", "instructor02", "learner01"]
    assert members == read_members(folder)


def test_accounts_that_cannot_be_read_are_not_given_out_again(folder):
    folder.accounts_file.write_text("[{}]")

    with pytest.raises(Damaged, match=r"accounts\.json cannot be read"):
        enroll(folder, PEOPLE, [])


def test_people_may_have_accounts_of_their_own(folder, tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("name,account\nAda Lovelace,ada\nalan,\n")

    people = read_roster(path, own_accounts=True)
    members = enroll(folder, people, [Person("ida", account="ida")])

    assert {member.account: member.name for member in members} == {
        "ada": "Ada Lovelace",
        "alan": "alan",
        "ida": "ida",
    }
    assert [member.account for member in members if member.instructor] == ["ida"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("Ada Lovelace,", "own.csv:2: 'Ada Lovelace' is not a name to sign in with"),
        ("Ada,ada\nEve,ada", "own.csv:3: The account ada is in line 2, too"),
        ("Ada,root/../ada", "own.csv:2: 'root/../ada' is not a name to sign in with"),
    ],
)
def test_an_account_that_cannot_be_one_is_named_with_its_line(tmp_path, lines, message):
    path = tmp_path / "own.csv"
    path.write_text(f"name,account\n{lines}\n")

    with pytest.raises(Invalid, match=message):
        read_roster(path, own_accounts=True)


def test_with_cards_the_workshop_gives_the_accounts(tmp_path):
    path = tmp_path / "roster.csv"
    path.write_text("name,account\nAda,ada\n")

    with pytest.raises(Invalid, match="must name the columns: name,email,group"):
        read_roster(path)


def test_an_account_is_an_instructors_or_a_learners(folder):
    ada = Person("ada", account="ada")

    with pytest.raises(Invalid, match="ada is an instructor and on the roster, too"):
        enroll(folder, [ada], [ada])
    with pytest.raises(Invalid, match="The instructors in the settings: 'Ida' is not a name"):
        enroll(folder, [ada], [Person("Ida", account="Ida")])


def test_cards_may_follow_accounts_of_peoples_own(folder):
    enroll(folder, [Person("anna", account="learner-anna")], [])

    assert accounts(enroll(folder, [Person("Ada")], []))["Ada"] == "learner01"
