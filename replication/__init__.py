"""PostgreSQL as a replicated store: nodes, standbys in step, commits that are known or unknown.

Knows nothing of sites, leases or messages. Imported by `sitecontrol`; imports none of our packages.
"""
