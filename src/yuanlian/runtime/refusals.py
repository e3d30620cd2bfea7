"""Why a command does not do what it was asked."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818 - it is no fault of the program
    """Nothing was started, or nothing was changed. The message says why, in one line, to whoever gave
    the command."""


REFUSALS = (Refusal, ValueError, OSError)
"""What a start may raise: beside refusals, what settings and the system object to."""
