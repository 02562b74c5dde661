"""The health-check daemon: it looks, votes and explains. It changes nothing; the agents act."""


class HealthcheckError(Exception):
    """Root of what the health-check daemon raises on purpose."""
