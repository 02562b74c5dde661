"""How long messages, references, replies and campaigns are kept, and what becomes of them: section [retention]."""

from math import ceil
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from sitecontrol.settings_errors import Misfit
from sitecontrol.settings_types import Section


class RetentionSettings(Section):
    """The live site's settings count. Days are of 24 hours, UTC."""

    MOST_PARTITIONS: ClassVar[int] = 120  # docs/adr/0018-partitions.md has what each costs

    messages_days: Annotated[int, Field(ge=4, le=3_650)] = 92  # receipts may come for three days
    references_days: Annotated[int, Field(ge=4, le=3_650)] = 400
    replies_days: Annotated[int, Field(ge=30, le=3_650)] = 1_500  # an opt-out is to be shown for four years
    campaigns_days: Annotated[int, Field(ge=4, le=3_650)] = 400  # after their end; with lists and reports
    archive: bool = True  # messages that leave are written to files first
    folder: Path | None = None  # for the archive; else `archive` in state_dir
    command: tuple[
        str, ...
    ] = ()  # run for each archive before anything is dropped; it must end with status 0
    command_deadline: Annotated[float, Field(gt=0, le=86_400)] = 3_600.0
    partition_days: Annotated[int, Field(ge=1, le=31)] = 7  # of new partitions
    ahead_days: Annotated[int, Field(ge=3, le=120)] = 28  # so far partitions are made ahead

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.references_days < self.messages_days:
            raise Misfit(
                ("references_days",),
                f"is less than messages_days: a repeat would be sent a second time while its message is still there;"
                f" use {self.messages_days} or more",
            )
        if self.campaigns_days < self.messages_days:
            raise Misfit(
                ("campaigns_days",),
                f"is less than messages_days: a report would be gone while its messages are still there;"
                f" use {self.messages_days} or more",
            )
        if self.ahead_days < 2 * self.partition_days:
            raise Misfit(
                ("ahead_days",),
                f"must be at least two partitions of partition_days = {self.partition_days};"
                f" use {2 * self.partition_days} or more",
            )
        partitions = ceil((self.messages_days + self.ahead_days) / self.partition_days)
        if partitions > self.MOST_PARTITIONS:
            fitting = ceil((self.messages_days + self.ahead_days) / self.MOST_PARTITIONS)
            raise Misfit(
                ("partition_days",),
                f"makes {partitions} partitions of each table, and every call takes the longer for each; at most"
                f" {self.MOST_PARTITIONS} are sensible: use {fitting} or more",
            )
        if not self.archive and (self.folder is not None or self.command):
            name = "folder" if self.folder is not None else "command"
            raise Misfit((name,), "is of use only with archive = true; set that, or remove this")
        if self.command and not self.command[0].startswith("/"):
            raise Misfit(
                ("command", 0),
                'name the program by its whole path; for example: "/usr/local/bin/keep-archive"',
            )
        return self
