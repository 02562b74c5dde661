"""What can go wrong here. The docstring is the message when none is given."""


class ReplicationError(Exception):
    """PostgreSQL as a replicated store could not do what it was asked for."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])


class CommitUnknown(ReplicationError):  # noqa: N818 (it says what is the case; not every unknown is an error)
    """The statement may have committed, here or everywhere, now or later, or not at all.

    Never to be acknowledged. Ask again with a statement that can be repeated.
    """


class SessionLost(ReplicationError, ConnectionError):  # noqa: N818 (same)
    """The connection to PostgreSQL is gone. Nothing that writes was sent over it."""


class ToolsMissing(ReplicationError):  # noqa: N818 (same)
    """No usable PostgreSQL was found."""


class NodeError(ReplicationError):
    """The node could not be brought into the state that was asked for."""


class NeedsClone(NodeError):  # noqa: N818 (same)
    """The data directory cannot be used any more: clone it anew."""


class DataDirectoryInUse(NodeError):  # noqa: N818 (same)
    """Another agent owns this data directory."""
