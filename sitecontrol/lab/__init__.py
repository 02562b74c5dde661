"""The lab: two sites, the witness and their carriers as real processes on one machine.

It starts the other processes by command line and talks to them over HTTP and signals, as an operator's
machine would; it imports nothing of them. Read `ports` (the port plan), `plan` (which processes there are and who
reaches whom how), `supervisor` (keeps them running), `wan` (the lines between the places), `faults` (what can
be broken) and `cli` (the commands).
"""
