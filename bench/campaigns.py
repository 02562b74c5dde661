"""A campaign: its list sent as a stream, then started."""

from collections.abc import AsyncIterator, Callable

import aiohttp

TEXT = "Power is out near {street}. Crews are on the way; we expect it back by {eta}. Reply STAT for news."
VARIABLES = [{"name": "street"}, {"name": "eta", "type": "time"}]
TOGETHER = 1_000  # rows in one piece of the stream
WITHIN_S = 300.0


class Campaign:
    """One campaign of the lab's account, at one of its dispatchers."""

    def __init__(self, address: tuple[str, int], program: str, key: str) -> None:
        self._api = f"http://{address[0]}:{address[1]}/v1/campaigns"
        self._program = program
        self._headers = {"Authorization": f"Bearer {key}"}
        self._path = ""

    async def send_list(self, rows: int, number: Callable[[], str]) -> int:
        """Make the campaign and give it its list; how many texts were taken."""
        asked = {"program": self._program, "name": "bench", "text": TEXT, "variables": VARIABLES}
        async with self._session() as session:
            async with session.post(self._api, json=asked) as answer:
                answer.raise_for_status()
                self._path = f"{self._api}/{(await answer.json())['id']}"
            csv = {"Content-Type": "text/csv"}
            async with session.put(f"{self._path}/list", data=_csv(rows, number), headers=csv) as answer:
                answer.raise_for_status()
                return int((await answer.json())["texts"])

    async def start(self) -> None:
        async with self._session() as session, session.post(f"{self._path}/start") as answer:
            answer.raise_for_status()

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(headers=self._headers, timeout=aiohttp.ClientTimeout(total=WITHIN_S))


async def _csv(rows: int, number: Callable[[], str]) -> AsyncIterator[bytes]:
    yield b"to,street,eta\n"
    for begin in range(0, rows, TOGETHER):
        some = range(begin, min(begin + TOGETHER, rows))
        yield "".join(f'{number()},"{row} Main St, Columbus",16:30\n' for row in some).encode()
