"""The rows that every part of the store works on, and the steps that several parts share."""

from datetime import datetime, timedelta
from itertools import count
from uuid import UUID, uuid4

from dispatcher.memory_store.rows import Doubted, KeptEvent, OpenedClaim, Parked, Segment, Submission
from dispatcher.model import (
    ApiKey,
    Event,
    MessageClass,
    NewMessage,
    Program,
    Reply,
    ReplyPart,
    State,
    StoredDurability,
)
from dispatcher.states import BY_NAME, What
from dispatcher.store import NotLeader
from dispatcher.story import stored_detail, superseded_detail
from dispatcher.webhooks.model import is_told
from sitecontrol.clock import Clock, SystemClock

TopicKey = tuple[int, int, str, str]  # account, program, recipient, topic
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
        self._topics: dict[
            TopicKey, tuple[datetime, UUID]
        ] = {}  # as of when the newest text holds, and which it is
        self._superseded: dict[UUID, UUID] = {}  # by which
        self._claims: dict[int, OpenedClaim] = {}
        self._turns: dict[MessageClass, int] = {}  # the account that was served last
        self._submissions: list[Submission] = []
        self._doubted: list[Doubted] = []
        self._parked: list[Parked] = []
        self._events: dict[UUID, list[Event]] = {}
        self._replies: list[tuple[datetime, Reply]] = []
        self._parts: dict[PartsKey, list[ReplyPart]] = {}  # of replies that are not whole yet
        self._parts_at: dict[PartsKey, datetime] = {}  # when the last of each came
        self._seen_parts: dict[bytes, datetime] = {}  # by fingerprint
        self._feeds: dict[int, list[KeptEvent]] = {}  # by account, of those whose events are kept
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

    def _move(self, segment: Segment, state: State, what: What, *, attempt: int | None = None) -> None:
        """Raises IllegalTransition when the table has no such way. `attempt`: of which the line tells."""
        BY_NAME[what].check(segment.state, state)
        before, segment.state = segment.state, state
        segment.next_try_at = None
        segment.updated_at = self._clock.wall()
        if BY_NAME[what].stored:
            self._tell(segment, what, attempt=attempt)
        if is_told(before, state):
            self._keep_event(segment.message.account_id, segment=segment, before=before)

    def _requeue(
        self, segment: Segment, what: What, *, after_s: float = 0.0, attempt: int | None = None
    ) -> None:
        self._move(segment, State.QUEUED, what, attempt=attempt)
        if after_s > 0 or segment.message.id in self._superseded:  # the clockwork sees to these
            segment.next_try_at = self._clock.wall() + timedelta(seconds=after_s)

    def _let_go(self, segment: Segment, newer: UUID) -> None:
        """It was superseded while it waited."""
        again = segment.resent
        what = What.SUPERSEDED_AGAIN if again else What.SUPERSEDED
        BY_NAME[what].check(segment.state, State.IN_DOUBT if again else State.CANCELED)
        segment.state = State.IN_DOUBT if again else State.CANCELED
        segment.next_try_at = None
        segment.updated_at = self._clock.wall()
        detail = superseded_detail(BY_NAME[what].sentence, newer)
        self._add_line(segment, detail)

    def _tell(self, segment: Segment, what: What, *, attempt: int | None = None) -> None:
        row = BY_NAME[what]
        detail = stored_detail(
            row.sentence,
            attempt=attempt or segment.attempt,
            carrier=segment.carrier if row.by_carrier else None,
            command_status=segment.command_status if row.by_carrier else None,
        )
        self._add_line(segment, detail)

    def _add_line(self, segment: Segment, detail: str) -> None:
        line = Event(at=self._clock.wall(), state=segment.state, segment=segment.number, detail=detail)
        self._events.setdefault(segment.message.id, []).append(line)

    def _store_reply(self, reply: Reply) -> None:
        self._replies.append((self._clock.wall(), reply))
        account_id = self._account_of(reply)
        if account_id is not None:
            self._keep_event(account_id, reply=len(self._replies))

    def _account_of(self, reply: Reply) -> int | None:
        """Who has its short code; of several the one that texted this customer last from there, or nobody."""
        programs = {
            p.id: p.account_id
            for p in self._programs.values()
            if p.source.lstrip("+") == reply.destination.lstrip("+")
        }
        accounts = set(programs.values())
        if len(accounts) == 1:
            return accounts.pop()
        customer = "+" + reply.source.lstrip("+")
        texted = [m for m in self._messages.values() if m.to == customer and m.program_id in programs]
        return max(texted, key=lambda m: m.id).account_id if texted else None

    def _keep_event(
        self,
        account_id: int,
        *,
        segment: Segment | None = None,
        before: State | None = None,
        reply: int | None = None,
    ) -> None:
        if account_id in self._feeds:
            self._feeds[account_id].append(
                KeptEvent(
                    number=next(self._numbers),
                    id=uuid4(),
                    at=self._clock.wall(),
                    message_id=None if segment is None else segment.message.id,
                    view=None if segment is None else segment.view,
                    before=before,
                    reply=reply,
                )
            )
