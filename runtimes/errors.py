"""The one exception family for mistakes in what the user gave. Runs on a Jetson's Python 3.6 too."""


class UserError(Exception):
    """A mistake in what the user gave: one line that names the file, the value and the way out.

    The command line prints the line and ends with ``status``; every other exception keeps its trace.
    """

    status = 2


class CheckError(UserError):
    """A check that did not hold, such as a file that does not compute what PyTorch computes."""

    status = 1


class NonFiniteError(UserError):
    """A network whose output is NaN or infinite."""


class MissingLibraryError(UserError):
    """An inference library called ``title`` is not installed; pip has it as ``package``, slimalign as ``extra``."""

    def __init__(self, path: object, title: str, package: str, extra: str) -> None:
        super().__init__(f"{path}: {title} is not installed; run pip install 'slimalign[{extra}]'")
        self.title, self.package = title, package
