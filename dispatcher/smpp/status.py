"""Every command_status of SMPP v3.4 (table 5-2): its name, what to do about it, and a sentence for people.

The class decides what becomes of a text whose submit was answered so:

- OK: the carrier has it.
- THROTTLED: too fast, or its queue is full. The link pauses and slows down; the text keeps its place.
- TEMPORARY: this link or this moment is at fault (its bind, its system, its credit). Try again, elsewhere
  if possible.
- PERMANENT: this text will never be taken. It fails with the code and the sentence.

Reserved codes are treated as permanent, vendor codes (0x400 to 0x4FF) as temporary: a text that might
still go must not be thrown away.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final


class StatusClass(StrEnum):
    OK = "ok"
    THROTTLED = "throttled"
    TEMPORARY = "temporary"
    PERMANENT = "permanent"


class CommandStatus(IntEnum):
    """The names of table 5-2."""

    ESME_ROK = 0x00
    ESME_RINVMSGLEN = 0x01
    ESME_RINVCMDLEN = 0x02
    ESME_RINVCMDID = 0x03
    ESME_RINVBNDSTS = 0x04
    ESME_RALYBND = 0x05
    ESME_RINVPRTFLG = 0x06
    ESME_RINVREGDLVFLG = 0x07
    ESME_RSYSERR = 0x08
    ESME_RINVSRCADR = 0x0A
    ESME_RINVDSTADR = 0x0B
    ESME_RINVMSGID = 0x0C
    ESME_RBINDFAIL = 0x0D
    ESME_RINVPASWD = 0x0E
    ESME_RINVSYSID = 0x0F
    ESME_RCANCELFAIL = 0x11
    ESME_RREPLACEFAIL = 0x13
    ESME_RMSGQFUL = 0x14
    ESME_RINVSERTYP = 0x15
    ESME_RINVNUMDESTS = 0x33
    ESME_RINVDLNAME = 0x34
    ESME_RINVDESTFLAG = 0x40
    ESME_RINVSUBREP = 0x42
    ESME_RINVESMCLASS = 0x43
    ESME_RCNTSUBDL = 0x44
    ESME_RSUBMITFAIL = 0x45
    ESME_RINVSRCTON = 0x48
    ESME_RINVSRCNPI = 0x49
    ESME_RINVDSTTON = 0x50
    ESME_RINVDSTNPI = 0x51
    ESME_RINVSYSTYP = 0x53
    ESME_RINVREPFLAG = 0x54
    ESME_RINVNUMMSGS = 0x55
    ESME_RTHROTTLED = 0x58
    ESME_RINVSCHED = 0x61
    ESME_RINVEXPIRY = 0x62
    ESME_RINVDFTMSGID = 0x63
    ESME_RX_T_APPN = 0x64
    ESME_RX_P_APPN = 0x65
    ESME_RX_R_APPN = 0x66
    ESME_RQUERYFAIL = 0x67
    ESME_RINVOPTPARSTREAM = 0xC0
    ESME_ROPTPARNOTALLWD = 0xC1
    ESME_RINVPARLEN = 0xC2
    ESME_RMISSINGOPTPARAM = 0xC3
    ESME_RINVOPTPARAMVAL = 0xC4
    ESME_RDELIVERYFAILURE = 0xFE
    ESME_RUNKNOWNERR = 0xFF


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    code: int
    name: str
    status_class: StatusClass
    sentence: str


_S = CommandStatus
_OK, _THROTTLED = StatusClass.OK, StatusClass.THROTTLED
_TEMPORARY, _PERMANENT = StatusClass.TEMPORARY, StatusClass.PERMANENT

_TABLE: Final[tuple[tuple[CommandStatus, StatusClass, str], ...]] = (
    (_S.ESME_ROK, _OK, "The carrier accepted it."),
    (_S.ESME_RINVMSGLEN, _PERMANENT, "The carrier says that the text's length is invalid."),
    (_S.ESME_RINVCMDLEN, _PERMANENT, "The carrier could not parse the request: its length is wrong."),
    (_S.ESME_RINVCMDID, _PERMANENT, "The carrier does not know this kind of request."),
    (_S.ESME_RINVBNDSTS, _TEMPORARY, "The link is not bound for this kind of request."),
    (_S.ESME_RALYBND, _TEMPORARY, "The carrier says that the link is bound already."),
    (_S.ESME_RINVPRTFLG, _PERMANENT, "The carrier refuses the priority flag."),
    (_S.ESME_RINVREGDLVFLG, _PERMANENT, "The carrier refuses to send delivery receipts as asked."),
    (_S.ESME_RSYSERR, _TEMPORARY, "The carrier has an internal error."),
    (_S.ESME_RINVSRCADR, _PERMANENT, "The carrier refuses the short code."),
    (_S.ESME_RINVDSTADR, _PERMANENT, "The carrier refuses the recipient's number."),
    (_S.ESME_RINVMSGID, _PERMANENT, "The carrier does not know the message id."),
    (_S.ESME_RBINDFAIL, _TEMPORARY, "The bind failed."),
    (_S.ESME_RINVPASWD, _TEMPORARY, "The carrier refuses our password."),
    (_S.ESME_RINVSYSID, _TEMPORARY, "The carrier does not know our system_id."),
    (_S.ESME_RCANCELFAIL, _PERMANENT, "The carrier could not cancel the message."),
    (_S.ESME_RREPLACEFAIL, _PERMANENT, "The carrier could not replace the message."),
    (_S.ESME_RMSGQFUL, _THROTTLED, "The carrier's queue is full."),
    (_S.ESME_RINVSERTYP, _PERMANENT, "The carrier refuses the service type."),
    (_S.ESME_RINVNUMDESTS, _PERMANENT, "The carrier refuses the number of destinations."),
    (_S.ESME_RINVDLNAME, _PERMANENT, "The carrier does not know the distribution list."),
    (_S.ESME_RINVDESTFLAG, _PERMANENT, "The carrier refuses the destination flag."),
    (_S.ESME_RINVSUBREP, _PERMANENT, "The carrier refuses to submit with replacement."),
    (_S.ESME_RINVESMCLASS, _PERMANENT, "The carrier refuses the esm_class, for example a text in parts."),
    (_S.ESME_RCNTSUBDL, _PERMANENT, "The carrier cannot submit to a distribution list."),
    (_S.ESME_RSUBMITFAIL, _TEMPORARY, "The carrier could not take the text, without saying why."),
    (_S.ESME_RINVSRCTON, _PERMANENT, "The carrier refuses the short code's type of number."),
    (_S.ESME_RINVSRCNPI, _PERMANENT, "The carrier refuses the short code's numbering plan."),
    (_S.ESME_RINVDSTTON, _PERMANENT, "The carrier refuses the recipient's type of number."),
    (_S.ESME_RINVDSTNPI, _PERMANENT, "The carrier refuses the recipient's numbering plan."),
    (_S.ESME_RINVSYSTYP, _TEMPORARY, "The carrier refuses our system type."),
    (_S.ESME_RINVREPFLAG, _PERMANENT, "The carrier refuses the replace flag."),
    (_S.ESME_RINVNUMMSGS, _PERMANENT, "The carrier refuses the number of messages."),
    (_S.ESME_RTHROTTLED, _THROTTLED, "We exceeded the carrier's rate."),
    (_S.ESME_RINVSCHED, _PERMANENT, "The carrier refuses the scheduled time."),
    (_S.ESME_RINVEXPIRY, _PERMANENT, "The carrier refuses the validity period."),
    (_S.ESME_RINVDFTMSGID, _PERMANENT, "The carrier does not know the predefined text."),
    (_S.ESME_RX_T_APPN, _TEMPORARY, "The receiver cannot take it now."),
    (_S.ESME_RX_P_APPN, _PERMANENT, "The receiver cannot take it."),
    (_S.ESME_RX_R_APPN, _PERMANENT, "The receiver rejected it."),
    (_S.ESME_RQUERYFAIL, _PERMANENT, "The carrier could not answer the query."),
    (_S.ESME_RINVOPTPARSTREAM, _PERMANENT, "The carrier could not parse the optional parameters."),
    (_S.ESME_ROPTPARNOTALLWD, _PERMANENT, "The carrier does not allow an optional parameter."),
    (_S.ESME_RINVPARLEN, _PERMANENT, "The carrier refuses the length of a parameter."),
    (_S.ESME_RMISSINGOPTPARAM, _PERMANENT, "The carrier misses an optional parameter."),
    (_S.ESME_RINVOPTPARAMVAL, _PERMANENT, "The carrier refuses the value of an optional parameter."),
    (_S.ESME_RDELIVERYFAILURE, _PERMANENT, "The carrier could not deliver it."),
    (_S.ESME_RUNKNOWNERR, _TEMPORARY, "The carrier reports an unknown error."),
)

STATUSES: Final[dict[int, Status]] = {
    code: Status(code=code, name=code.name, status_class=status_class, sentence=sentence)
    for code, status_class, sentence in _TABLE
}


def describe(code: int) -> Status:
    """What a command_status means; never fails."""
    if (known := STATUSES.get(code)) is not None:
        return known
    if 0x400 <= code <= 0x4FF:
        return Status(
            code=code,
            name=f"VENDOR_{code:#06x}",
            status_class=StatusClass.TEMPORARY,
            sentence=f"The carrier answered with its own code {code:#x}.",
        )
    return Status(
        code=code,
        name=f"RESERVED_{code:#010x}",
        status_class=StatusClass.PERMANENT,
        sentence=f"The carrier answered with {code:#x}, which the specification does not define.",
    )
