"""How long each kind of failure takes, phase by phase, over many drills and beside Patroni: docs/failover-report.md."""
