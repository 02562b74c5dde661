"""Which rows were written since a position, as the write-ahead log has it. Pure.

`pg_waldump` tells, a record a line, the transaction that wrote it and the blocks of tables that it touched. A row
that was written since is in one of these blocks, and its `xmin` is one of these transactions. So it is found without
reading the table, however large that is, and by no clock's word.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

RECORD = re.compile(r"rmgr: (?P<manager>\w+) .*?tx:\s*(?P<transaction>\d+), ")
BLOCK = re.compile(
    r"blkref #\d+: rel (?P<tablespace>\d+)/(?P<database>\d+)/(?P<file>\d+) (?:fork (?P<fork>\w+) )?blk (?P<block>\d+)"
)
OF_TABLES = frozenset({"Heap", "Heap2"})


@dataclass(frozen=True, kw_only=True)
class Changes:
    transactions: set[int] = field(default_factory=set)  # those that committed, and others
    blocks: dict[tuple[int, int], set[int]] = field(default_factory=dict)  # by database (its oid) and file

    def read(self, lines: Iterable[str]) -> None:
        """Take in what `pg_waldump` writes."""
        for line in lines:
            record = RECORD.match(line)
            if record is None or record["manager"] not in OF_TABLES or record["transaction"] == "0":
                continue
            self.transactions.add(int(record["transaction"]))
            for block in BLOCK.finditer(line):
                if block["fork"] in (None, "main"):
                    where = (int(block["database"]), int(block["file"]))
                    self.blocks.setdefault(where, set()).add(int(block["block"]))
