"""Who leads: the facts, the table of decisions, and the effects that carry them out (docs/failover.md).

`facts` says what is known, `decide` what follows from it (pure), `effects` what can be done (data),
`transactions` how it is written to etcd (pure), `executor` does it.
"""
