"""The site agent: owns the node's PostgreSQL, holds or watches the leader's lease, carries decisions out.

`keeper` keeps the lease, `monitor` watches PostgreSQL, `facts_source` puts what is known together, `lanes` runs
one effect per lane, `executor` and its parts do the work, `api` tells.
"""
