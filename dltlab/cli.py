"""The command line: each command a few lines over one function of the rooms below."""


def main() -> None:
    """Run the command line."""
