"""Exceptions that the user can fix."""


class LabError(Exception):
    """An error that the user can fix.

    The message is one clear sentence that names the thing and the fix. The command line prints it
    and exits with 2; a notebook shows it as the last line of a traceback.
    """


class NotFound(LabError):
    """A lab, data set, file or version with that name does not exist."""


class Unavailable(LabError):
    """Something exists but cannot be used here or now: a package, a device, a host, a disk."""


class WorkerLost(Unavailable):
    """Another worker of a job has ended, was stopped, or cannot be reached."""


class Damaged(LabError):
    """The content of a file is not what it must be: truncated, changed, or of another format."""


class Invalid(LabError):
    """An argument, an option, a name or a source has a value that is not allowed."""
