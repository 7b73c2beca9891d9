"""What a user can set right, and what a user asked for."""

import signal


class UserError(ValueError):
    """A mistake in what the user asked for. The message is one line and says what to do.

    The entry points print it without a traceback and exit with code 2.
    """


class StoppedError(Exception):
    """A training was told to stop by a signal, and has saved where it was. The exit code is 128 + the signal's."""

    def __init__(self, step: int, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}")
        self.exit_code = 128 + number


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
