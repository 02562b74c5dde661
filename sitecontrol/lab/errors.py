"""What the lab refuses, each in one line with the cure."""


class LabError(Exception):
    """The lab cannot do this; the message says what, why, and what to do."""

    exit_code = 1


class LabRefusedError(LabError):
    """A check said no before anything was started."""

    exit_code = 3


class LabUnreachableError(LabError):
    """The lab, or a part of it that was asked, does not answer."""

    exit_code = 5


class LabTimeoutError(LabError):
    """The time ran out; the lab may still be on its way."""

    exit_code = 4
