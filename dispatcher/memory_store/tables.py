"""The rows that every part of the store works on, and the steps that several parts share."""

from datetime import datetime, timedelta
from itertools import count
from uuid import UUID

from dispatcher.memory_store.rows import OpenedClaim, Parked, Segment, Submission
from dispatcher.model import ApiKey, Event, NewMessage, Program, Reply, ReplyPart, State, StoredDurability
from dispatcher.store import NotLeader
from sitecontrol.clock import Clock, SystemClock

NOT_LEFT = frozenset({State.ACCEPTED, State.HELD, State.SCHEDULED, State.QUEUED})

PartsKey = tuple[str, str, str, int, int]  # carrier, source, destination, reference, total


class Tables:
    """`lead` and `step_down` play the leader's part, `canary_at` its agent's; the next groups are told `durability`."""

    def __init__(self, clock: Clock | None = None, *, term: int = 1) -> None:
        self._clock = clock or SystemClock()
        self._term: int | None = term
        self._numbers = count(1)
        self._programs: dict[int, Program] = {}
        self._keys: dict[int, ApiKey] = {}
        self._accepted_at: dict[UUID, datetime] = {}
        self._messages: dict[UUID, NewMessage] = {}
        self._references: dict[tuple[int, str], NewMessage] = {}
        self._segments: dict[tuple[UUID, int], Segment] = {}
        self._claims: dict[int, OpenedClaim] = {}
        self._submissions: list[Submission] = []
        self._parked: list[Parked] = []
        self._events: dict[UUID, list[Event]] = {}
        self._replies: list[tuple[datetime, Reply]] = []
        self._parts: dict[PartsKey, list[ReplyPart]] = {}  # of replies that are not whole yet
        self._parts_at: dict[PartsKey, datetime] = {}  # when the last of each came
        self._seen_parts: dict[bytes, datetime] = {}  # by fingerprint
        self.durability = StoredDurability.TWO_SITE
        self.canary_at = self._clock.wall()

    # -- what a test sets up

    def lead(self, term: int) -> None:
        self._term = term

    def step_down(self) -> None:
        self._term = None

    def add_program(self, program: Program) -> None:
        self._programs[program.id] = program

    def add_key(self, key: ApiKey) -> None:
        self._keys[key.id] = key

    @property
    def stored_replies(self) -> tuple[Reply, ...]:
        return tuple(reply for _, reply in self._replies)

    # -- steps that several parts share

    def _check(self, term: int) -> None:
        if self._term != term:
            raise NotLeader

    def _check_open(self) -> None:
        if self._term is None:
            raise NotLeader

    def _segments_of(self, message_id: UUID) -> list[Segment]:
        return [self._segments[message_id, n] for n in range(1, self._messages[message_id].segments + 1)]

    def _move(self, segment: Segment, state: State, detail: str | None = None) -> None:
        segment.state = state
        segment.next_try_at = None
        segment.updated_at = self._clock.wall()
        if detail is not None:
            self._tell(segment, detail)

    def _requeue(self, segment: Segment, after_s: float) -> None:
        self._move(segment, State.QUEUED)
        if after_s > 0:
            segment.next_try_at = self._clock.wall() + timedelta(seconds=after_s)

    def _tell(self, segment: Segment, detail: str) -> None:
        line = Event(at=self._clock.wall(), state=segment.state, segment=segment.number, detail=detail)
        self._events.setdefault(segment.message.id, []).append(line)
