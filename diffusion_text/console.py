"""Lines of the log on a terminal."""

import logging
import sys


class Console(logging.StreamHandler):
    """Writes to what standard output is now: a progress bar puts its own in its place, so that lines stay above it."""

    @property
    def stream(self):
        return sys.stdout

    @stream.setter
    def stream(self, stream):
        pass
