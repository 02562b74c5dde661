"""Moving clients when production moves: what carries the news to DNS, to load balancers, to an operator's program.

`api` says what an adapter is; `dns`, `command` and `haproxy` are those there are. `moving` decides, purely, what is
to be done next with one adapter; `mover` does it, beside the agent's loop, which never waits for any of it.

Clients that come to the wrong site are served all the same (its dispatchers write to the leader of the other one), so
a failing adapter is an alarm and nothing more: docs/traffic.md.
"""
