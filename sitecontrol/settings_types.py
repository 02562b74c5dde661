"""What a single value of the settings may be: names, addresses, amounts; each with the words that explain it."""

from ipaddress import ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from sitecontrol.settings_errors import Misfit
from sitecontrol.settings_forms import Form


class Section(BaseModel):
    """A section of a file: what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _existing_port(address: str) -> str:
    if int(address.rpartition(":")[2]) > 65_535:
        raise Misfit((), 'a port is at most 65535; for example: "127.0.0.1:5432"')
    return address


def _network(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as error:
        raise Misfit((), f'{error}; for example: "10.1.0.20", or "10.1.0.0/24"') from None
    return text


def _numeric(text: str) -> str:
    try:
        ip_address(text)
    except ValueError as error:
        raise Misfit((), f'{error}; for example: "203.0.113.10", or "2001:db8::10"') from None
    return text


def _numeric_server(address: str) -> str:
    host = address.rpartition(":")[0].strip("[]")
    try:
        ip_address(host)
    except ValueError:
        raise Misfit((), 'name the server by its IP address; for example: "10.1.0.53:53"') from None
    return address


Name = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,38}$"),
    Form(words="a small letter, then at most 38 of a-z, 0-9 and -, in quotes", example="columbus-a"),
]
Address = Annotated[
    str,
    StringConstraints(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):[0-9]{1,5}$"),
    AfterValidator(_existing_port),
    Form(words="HOST:PORT in quotes", example="127.0.0.1:5432"),
]
Hours = Annotated[
    str,
    StringConstraints(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])?$"),
    Form(words="HH:MM-HH:MM in UTC, in quotes; or empty", example="22:00-04:00"),
]
Url = Annotated[
    str,
    StringConstraints(pattern=r"^https?://[^\s/]+(/[^\s]*)?$"),
    Form(words="a http:// or https:// address in quotes", example="http://127.0.0.1:8008"),
]
Network = Annotated[
    str,
    AfterValidator(_network),
    Form(words="an address or a network in quotes", example="10.1.0.0/24"),
]
NumericAddress = Annotated[
    str,
    AfterValidator(_numeric),
    Form(words="an IP address in quotes", example="203.0.113.10"),
]
NameServer = Annotated[
    Address,
    AfterValidator(_numeric_server),
    Form(words="IP-ADDRESS:PORT in quotes", example="10.1.0.53:53"),
]
DomainName = Annotated[
    str,
    StringConstraints(
        pattern=r"^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$",
        max_length=200,
    ),
    Form(words="a domain name in quotes", example="texts.example.net"),
]
Socket = Annotated[
    str,
    StringConstraints(pattern=r"^(/.{1,100}|[^/\s]+:[0-9]{1,5})$"),
    Form(words="the path of a socket, or HOST:PORT, in quotes", example="/run/haproxy/admin.sock"),
]
Amount = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6})?$"),
    Form(words="a decimal number in quotes, so that it is exact", example="0.0075"),
]
Currency = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Z]{3}$"),
    Form(words="a currency's three letters (ISO 4217) in quotes", example="USD"),
]
Rate = Annotated[float, Field(gt=0)]  # segments per second
ShortCode = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9 ._-]{1,20}$"),
    Form(words="a short code (or a number without +) in quotes", example="12345"),
]
Prefix = Annotated[
    str,
    StringConstraints(pattern=r"^\+[1-9][0-9]{0,14}$"),
    Form(words="the beginning of a number in E.164 form, with +, in quotes", example="+1614"),
]
ProgramName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100),
    Form(words="the name of a program in quotes", example="outage"),
]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
