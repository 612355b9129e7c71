from docs.extensions.command_pages import commands, section


def test_every_command_has_a_section_with_its_options():
    sections = {words: section(words, command) for words, command in commands()}

    assert {"dltlab lab", "dltlab data import", "dltlab workshop serve"} <= sections.keys()
    assert "--no-browser" in sections["dltlab lab"]
    assert "Open the course in JupyterLab." in sections["dltlab lab"]
