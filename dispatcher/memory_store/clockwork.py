"""What happens because time has passed: sending again, releasing, expiring, giving up the wait."""

from datetime import timedelta

from dispatcher.memory_store.receipts import Receipts
from dispatcher.model import OnDoubt, State
from dispatcher.states import WAITING, What

RECEIPT_WAIT = timedelta(hours=72)


class Clockwork(Receipts):
    async def resend_doubtful(self, term: int, grace_s: float, limit: int) -> int:
        self._check(term)
        now = self._clock.wall()
        due = [
            s
            for s in self._segments.values()
            if s.state is State.IN_DOUBT
            and not s.resent
            and s.message.on_doubt is OnDoubt.RESEND
            and s.doubts[s.attempt] <= now - timedelta(seconds=grace_s)
            and (s.message.expires_at is None or s.message.expires_at > now)
        ]
        for segment in due[:limit]:
            segment.resent = True
            self._requeue(segment, What.RESENT)
        return len(due[:limit])

    async def release_due(self, term: int, limit: int, *, clock_agrees: bool = True) -> int:
        self._check(term)
        self._unpark()
        if not clock_agrees:
            return 0
        now = self._clock.wall()
        moved = 0
        for segment in self._segments.values():
            expires_at = segment.message.expires_at
            waits_no_longer = segment.next_try_at is not None and segment.next_try_at <= now
            if segment.state in WAITING and expires_at is not None and expires_at <= now:
                if segment.resent:
                    self._move(segment, State.IN_DOUBT, What.TOO_LATE_AGAIN)
                else:
                    self._move(segment, State.EXPIRED, What.TOO_LATE)
            elif segment.state is State.QUEUED and segment.message.id in self._superseded:
                self._let_go(segment, self._superseded[segment.message.id])
            elif segment.state is State.QUEUED and waits_no_longer:
                segment.next_try_at = None
            elif segment.state in WAITING and waits_no_longer:
                self._requeue(segment, What.DUE)
            elif (
                segment.state is State.SUBMITTED
                and segment.submitted_at is not None
                and segment.submitted_at <= now - RECEIPT_WAIT
            ) or (segment.state is State.IN_DOUBT and max(segment.doubts.values()) <= now - RECEIPT_WAIT):
                segment.doubts.clear()
                self._move(segment, State.UNKNOWN, What.NO_RECEIPT)
            else:
                continue
            moved += 1
            if moved == limit:
                break
        return moved
