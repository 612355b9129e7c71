import pytest

from dltlab.course import SourceError, read_lab
from dltlab.course.front_matter import Block
from dltlab.paths import short_path

OBJECTIVE = "#   - measure how far predictions are from the truth\n"

# Old and new text, a part of the line that must be named, and a part of the message.
ERRORS = {
    "a misspelled key": ("# summary:", "# sumary:", "# sumary", "unknown key 'sumary'"),
    "a misspelled nested key": ("read: 5", "raed: 5", "# minutes", "unknown key 'minutes.raed'"),
    "an unknown profile": ("#   full:", "#   fast: {}\n#   full:", "fast", "'profiles.fast'"),
    "a missing key": ("# memory_gb: 1\n", "", "# ---", "the key 'memory_gb' is missing"),
    "a missing nested key": ("read: 5, ", "", "# minutes", "the key 'minutes.read' is missing"),
    "a missing profile": (
        "#   full: {SAMPLES: 100000}\n",
        "",
        "# profiles",
        "the profile 'profiles.full' is missing",
    ),
    "an unknown parameter": (
        "smoke: {SAMPLES: 10}",
        "smoke: {SAMPLE: 10}",
        "smoke",
        "profile 'smoke' sets unknown parameter 'SAMPLE'; known: SAMPLES",
    ),
    "a workshop profile that differs from the cell": (
        "workshop: {}",
        "workshop: {SAMPLES: 5}",
        "workshop",
        "make them equal",
    ),
    "a string in place of a number": (
        "memory_gb: 1",
        "memory_gb: lots",
        "memory_gb",
        "a valid number",
    ),
    "a number in place of a string": ('title: "My topic"', "title: 7", "# title", "a valid string"),
    "zero minutes": ("read: 5", "read: 0", "# minutes", "greater than 0"),
    "half a minute": ("read: 5", "read: 0.5", "# minutes", "a valid integer"),
    "an unknown value for gpu": ("gpu: none", "gpu: maybe", "# devices", "'none', 'optional'"),
    "a number in place of an objective": (
        OBJECTIVE,
        OBJECTIVE + "#   - 3\n",
        "#   - 3",
        "'objectives.1'",
    ),
    "no objectives": (OBJECTIVE, "", "# objectives", "a valid list"),
    "an empty summary": (
        "summary: One sentence that says what this lab is about.",
        "summary: ''",
        "# summary",
        "at least 1 character",
    ),
    "a tab": ("# title", "#\ttitle", "#\ttitle", "not YAML"),
    "two colons": ("summary: One", "summary: a: One", "# summary", "not YAML"),
    "an unclosed list": ("datasets: []", "datasets: [", "# profiles", "not YAML"),
    "a control character": ("summary: One", "summary: \x07 One", "# summary", "control character"),
    "a line without '#'": ("# datasets", "datasets", "datasets", "must begin with '# '"),
    "an unclosed block": ("# ---\n\n", "\n\n", "# ---", "is not closed"),
    "no block": ("# ---\n# title", "# title", "# title", "the front matter is missing"),
}


@pytest.mark.parametrize(("old", "new", "line", "message"), ERRORS.values(), ids=ERRORS)
def test_an_error_names_the_file_the_line_and_the_problem(source, edit, old, new, line, message):
    edit(source, old, new)

    with pytest.raises(SourceError) as caught:
        read_lab(source)

    lines = source.read_text().splitlines()
    number = next(n for n, text in enumerate(lines, start=1) if line in text)
    assert str(caught.value).startswith(f"{short_path(source)}:{number}: ")
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_an_unknown_key_is_reported_with_the_known_ones(source, edit):
    edit(source, "exercise: 5", "exercises: 5")

    with pytest.raises(SourceError, match="known here: read, exercise, compute"):
        read_lab(source)


@pytest.mark.parametrize("values", ["- a\n# - b", "hello"])
def test_front_matter_without_keys_is_an_error(source, values):
    source.write_text(f"# ---\n# {values}\n# ---\n")

    with pytest.raises(SourceError, match="must be lines 'key: value'"):
        read_lab(source)


@pytest.mark.parametrize("text", ["", "\n", "# %%\nx = 1\n"])
def test_a_source_without_front_matter_is_an_error_in_line_1(source, text):
    source.write_text(text)

    with pytest.raises(SourceError) as caught:
        read_lab(source)

    assert (caught.value.line, caught.value.path) == (1, source)


def test_valid_front_matter_is_read_with_its_types(source):
    front_matter = read_lab(source).front_matter

    assert front_matter.title == "My topic"
    assert front_matter.minutes.read == 5
    assert front_matter.devices.gpu == "none"
    assert front_matter.profiles.smoke == {"SAMPLES": 10}


def test_the_line_of_a_missing_key_is_that_of_its_nearest_parent(source):
    block = Block(source, source.read_text())

    assert block.line("minutes", "nothing") == block.line("minutes") == 6
    assert block.line("nothing") == 1
    assert block.line("objectives", 0) == 5
