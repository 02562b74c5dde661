"""The client against a real dispatcher on a real PostgreSQL, with a carrier that keeps a log of what it was sent."""

import asyncio
from collections import Counter
from pathlib import Path

from hotsite_client import AsyncClient, Client, Message
from replication.session import Target
from tests.client.sites import QUICK
from tests.integration.test_dispatcher import scene
from tests.ports import free_port
from tests.waiting import eventually


async def test_what_is_repeated_after_no_answer_reaches_the_carrier_once(
    store_database: Target, tmp_path: Path
):
    async with scene(store_database, tmp_path) as at:
        await at.name_leader()
        urls = [f"http://127.0.0.1:{free_port()}", at.url]
        texts = [
            Message(program="outage", to=f"+16145550{n}", body="Power is out.", reference=f"r{n}")
            for n in range(100, 120)
        ]
        async with AsyncClient(urls, at.key, policy=QUICK) as client:
            results = [result async for result in client.bulk(texts, at_once=6)]
            assert all(result.accepted is not None and not result.accepted.duplicate for result in results)

            async def delivered() -> bool:
                return Counter([message.state async for message in client.messages()]) == {"delivered": 20}

            await eventually(delivered)
            told = await client.find("r107")
        assert told is not None
        assert (told.is_final, told.parts[0].carrier, told.attempts) == (True, "acme", 1)
        assert await asyncio.to_thread(repeated, urls, at.key, texts) == 20
        assert Counter(submit["destination"] for submit in at.submits()) == {text.to[1:]: 1 for text in texts}


def repeated(urls: list[str], key: str, texts: list[Message]) -> int:
    with Client(urls, key, policy=QUICK) as client:
        return sum(client.send(text).duplicate for text in texts)
