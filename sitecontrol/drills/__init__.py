"""The drills: a fault rehearsed on a lab under steady traffic, and what it cost, measured.

`stories` tells each drill (the fault, the healing, what must hold), `traffic` plays the clients, `ledger` keeps
what was acknowledged, `accounting` asks what became of it and compares with what the carriers received,
`measure` turns it into numbers, `checks` judges a run, `series` several, `report` draws it. Everything goes
over HTTP, signals and files.
"""
