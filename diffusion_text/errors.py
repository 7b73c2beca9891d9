"""What a user can set right."""


class UserError(ValueError):
    """A mistake in what the user asked for. The message is one line and says what to do.

    The entry points print it without a traceback and exit with code 2.
    """


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
