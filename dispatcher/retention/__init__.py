"""The store at age: partitions are made ahead of need, and leave when their time is over.

`model`    what is there: partitions, periods, what was retired.
`decide`   what is to be done next, and what is wrong. Pure.
`store`    the calls of schema `hotsite` by which it is done, on a session of its own.
`archive`  a period as files, with a manifest.
`carry_out` one round: decides, does, tells.
`upkeep`   rounds by the dispatchers of the live site.
`command`  `python -m dispatcher retention`.

Rules:

* Nothing is dropped that is not final, not archived (unless no archive is wanted), or not counted again once nobody can
  change it any more. A process may die on every line: the next round goes on from what the database says.
* Nothing goes by a clock that is not believed (`dispatcher.clocks`): a year ahead it would take a year with it.
* No lock is waited for longer than a moment: traffic would queue behind it.
"""
