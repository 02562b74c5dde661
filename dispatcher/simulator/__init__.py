"""A stand-in SMSC for labs and tests: a real SMPP v3.4 server that misbehaves when it is told to.

`python -m dispatcher.simulator --help`. Everything it received stands in its log (`submit_log`), which is what
drills compare with what was accepted; nothing here is imported by the rest of the dispatcher.
"""
