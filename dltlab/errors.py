"""The one exception that is written for the person who reads it."""


class LabError(Exception):
    """Something the user can mend.

    The message is one clear sentence that names the thing and the mend. The command line prints it
    and exits with 2; a notebook shows it as the last line of a traceback.
    """
