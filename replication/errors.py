"""What can go wrong here. The docstring is the message when none is given."""


class ReplicationError(Exception):
    """PostgreSQL as a replicated store could not do what it was asked for."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])


class CommitUnknown(ReplicationError):
    """The statement may have committed, here or everywhere, now or later, or not at all.

    Never to be acknowledged. Ask again with a statement that can be repeated.
    """


class SessionLost(ReplicationError, ConnectionError):
    """The connection to PostgreSQL is gone. Nothing that writes was sent over it."""


class ToolsMissing(ReplicationError):
    """No usable PostgreSQL was found."""


class NodeError(ReplicationError):
    """The node could not be brought into the state that was asked for."""


class DataDirectoryInUse(NodeError):
    """Another agent owns this data directory."""


class NeedsClone(NodeError):
    """The data directory cannot be used any more: clone it anew."""


class NotReady(NodeError):
    """PostgreSQL runs, but did not accept connections in time. It was left running."""


class NotStopped(NodeError):
    """PostgreSQL did not stop in time. It is still stopping."""
