"""Certificates: one that is not trusted gets neither the key nor the text, and is not asked again and again."""

import asyncio
import ssl
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from hotsite_client import AsyncClient, Client, Message, Policy, Unreachable
from hotsite_client.cli import main
from tests.api_server import KEY, Api
from tests.certificates import Certificates, make_certificates
from tests.client.sites import Either, passes, site, text
from tests.client.test_calls import stored


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


@pytest.fixture
def tls(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.path("server.crt"), certificates.path("server.key"))
    return context


async def test_a_site_that_is_not_trusted_is_told_at_once_and_hears_nothing(
    api: Api, either: Either, tls: ssl.SSLContext
):
    async with site(api, passes, tls=tls) as only:
        began = time.monotonic()
        with pytest.raises(Unreachable, match=r"(?i)certificate"):
            await either.call("send", [only.url], text(), policy=Policy())
        assert time.monotonic() - began < 30  # of the 60 that it may try
    assert only.asked == []


async def test_an_authority_of_ones_own_can_be_trusted(
    api: Api, certificates: Certificates, tls: ssl.SSLContext, tmp_path: Path
):
    verify = ssl.create_default_context(cafile=str(certificates.path("ca.crt")))

    def in_thread(url: str, message: Message) -> bool:
        with Client([url], KEY, verify=verify) as client:
            return client.send(message).duplicate

    async with site(api, passes, tls=tls) as only:
        async with AsyncClient([only.url], KEY, verify=verify) as client:
            assert not (await client.send(text(reference="r"))).duplicate
        assert await asyncio.to_thread(in_thread, only.url, text(reference="r"))
        sheet = tmp_path / "one.csv"
        sheet.write_text("to,text\n+16145550100,Power is back.\n")
        words = [str(sheet), "--program", "outages", "--body-column", "text", "--url", only.url]
        trusted = ["--ca-file", str(certificates.path("ca.crt"))]
        env = {"HOTSITE_KEY": KEY}
        result = await asyncio.to_thread(CliRunner().invoke, main, [*words, *trusted], env=env)
        assert result.exit_code == 0, result.output
    wrong = CliRunner().invoke(main, [*words, "--ca-file", str(sheet)], env=env)
    assert (wrong.exit_code, f"{sheet}: " in wrong.stderr) == (1, True)
    assert len(await stored(api)) == 2
