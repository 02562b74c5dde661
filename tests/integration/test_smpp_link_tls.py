"""The link over TLS: the same certainty about what was written."""

import ssl

import pytest

from dispatcher.smpp.link import LinkState
from dispatcher.smpp.pdu import (
    SubmitSmResp,
)
from tests.certificates import Certificates, make_certificates
from tests.smpp_links import bound, fill_the_socket, on_both_loops, run, write
from tests.smpp_scenes import SUBMIT, Told, carrier, linked, scripted_carrier, soon, within

# -- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def server_context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.path("server.crt"), certificates.path("server.key"))
    return context


@on_both_loops
def test_over_tls_texts_and_answers_pass(new_loop, certificates):
    async def story() -> None:
        async with (
            scripted_carrier(server_context(certificates)) as script,
            linked(carrier(script.port, tls=True), tls=certificates.client_context()) as link,
        ):
            await bound(link)
            for _ in range(5):
                submissions = await write(link, 10)
                for received in await script.take(10):
                    script.visit.send(SubmitSmResp(message_id="x"), received.sequence)
                assert not any([(await within(submission.answer)).doubt for submission in submissions])

    run(new_loop, story())


@on_both_loops
def test_over_tls_too_no_submit_is_written_while_octets_lie_in_a_buffer(new_loop, certificates):
    async def story() -> None:
        async with (
            scripted_carrier(server_context(certificates)) as script,
            linked(
                carrier(script.port, window=1000, rate=1e6, tls=True), tls=certificates.client_context()
            ) as link,
        ):
            await bound(link)
            script.visit.transport.pause_reading()
            written = await fill_the_socket(link, soon(30))
            while await link.room(1, soon(0.1)):  # the other end's TLS has room for some more
                written += await fill_the_socket(link, soon(30))
            script.visit.transport.resume_reading()
            assert await link.room(1, soon()) == 1
            assert len(await script.take(written)) == written

    run(new_loop, story())


@on_both_loops
def test_over_tls_too_octets_in_a_buffer_at_the_deadline_are_aborted(new_loop, certificates):
    async def story() -> None:
        async with (
            scripted_carrier(server_context(certificates)) as script,
            linked(
                carrier(script.port, window=1000, rate=1e6, tls=True), tls=certificates.client_context()
            ) as link,
        ):
            await bound(link)
            script.visit.transport.pause_reading()
            (first,) = link.write((SUBMIT,), soon(30))
            await fill_the_socket(link, soon(1.0))
            while await link.room(1, soon(0.1)):
                await fill_the_socket(link, soon(1.0))
            assert (await within(first.answer)).reason.startswith("octets of a claim")

    run(new_loop, story())


async def test_a_carrier_with_an_unknown_certificate_is_not_trusted(certificates):
    told = Told()
    async with (
        scripted_carrier(server_context(certificates)) as script,
        linked(carrier(script.port, tls=True), told) as link,
    ):
        await told.until(lambda: LinkState.DOWN in told.states)
        assert "certificate" in link.last_error.lower()
        assert script.received.empty()
