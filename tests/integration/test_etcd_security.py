"""Passwords and certificates."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from sitecontrol.clock import SystemClock
from sitecontrol.etcd.api import Compare, EtcdRefused, EtcdUnknown, Put, Target
from sitecontrol.etcd.client import GrpcEtcd
from sitecontrol.etcd.connect import connect
from sitecontrol.settings import EtcdSettings, Secrets, SettingsError
from tests.certificates import Certificates, make_certificates
from tests.etcd import Cluster, run_cluster

PATIENT = 5.0
OURS = "/hotsite/"
THEIRS = "/other/"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    """A member that wants a password: user `hotsite`, with rights below /hotsite/ only."""
    with run_cluster(["guarded"]) as cluster:
        cluster.enable_authentication("right", user="hotsite", readable=OURS)
        yield cluster


@pytest.fixture
async def etcd(guarded: Cluster) -> AsyncIterator[GrpcEtcd]:
    client = guarded.client(login=("hotsite", "right"), call_timeout=PATIENT)
    yield client
    await client.aclose()


async def test_the_right_password_opens_our_keys(etcd: GrpcEtcd) -> None:
    lease = await etcd.grant(60)
    await etcd.put(OURS + "a", b"1", lease=lease)
    assert await etcd.keep_alive(lease) == 60
    assert (await etcd.get_prefix(OURS)).kvs[0].value == b"1"
    assert (await etcd.members())[0].name == "guarded"
    await etcd.revoke(lease)


async def test_other_keys_stay_closed(etcd: GrpcEtcd) -> None:
    with pytest.raises(EtcdRefused, match="permission denied"):
        await etcd.get(THEIRS)
    with pytest.raises(EtcdRefused, match="permission denied"):
        await etcd.put(THEIRS, b"1")
    with pytest.raises(EtcdRefused, match="permission denied"):
        await anext(etcd.watch(THEIRS, 1))


@pytest.mark.parametrize("login", [("hotsite", "wrong"), ("nobody", "right")])
async def test_a_wrong_password_is_refused(guarded: Cluster, login: tuple[str, str]) -> None:
    client = guarded.client(login=login, call_timeout=PATIENT)
    try:
        with pytest.raises(EtcdRefused, match="authentication failed"):
            await client.get(OURS)
        with pytest.raises(EtcdRefused, match="authentication failed"):
            await client.put(OURS, b"1")
    finally:
        await client.aclose()


async def test_without_a_password_everything_is_refused(guarded: Cluster) -> None:
    client = guarded.client(call_timeout=PATIENT)
    try:
        with pytest.raises(EtcdRefused):
            await client.get(OURS)
        with pytest.raises(EtcdRefused):
            await anext(client.watch(OURS, 1))
    finally:
        await client.aclose()


async def test_a_password_for_an_etcd_that_asks_for_none_is_refused(etcd_member: Cluster) -> None:
    client = etcd_member.client(login=("hotsite", "right"), call_timeout=PATIENT)
    try:
        with pytest.raises(EtcdRefused, match="authentication is not enabled"):
            await client.get(OURS)
    finally:
        await client.aclose()


async def test_a_restarted_member_that_forgot_our_token_is_given_a_new_one(
    etcd: GrpcEtcd, guarded: Cluster
) -> None:
    revision = await etcd.put(OURS + "a", b"1")
    async with aclosing(etcd.watch(OURS, revision)) as batches:
        await anext(batches)
        guarded.members[0].kill()
        await asyncio.to_thread(guarded.start)
        answers = await asyncio.gather(*(etcd.get(OURS + "a") for _ in range(10)))
        assert {answer.revision for answer in answers} == {revision}
        after = await etcd.put(OURS + "a", b"2")
        async with asyncio.timeout(20):
            assert (await anext(batches)).revision == after


async def test_a_write_with_a_forgotten_token_is_done_once(etcd: GrpcEtcd, guarded: Cluster) -> None:
    revision = await etcd.put(OURS + "a", b"1")
    guarded.members[0].kill()
    await asyncio.to_thread(guarded.start)
    assert await etcd.put(OURS + "a", b"2") == revision + 1


async def test_a_watch_with_a_forgotten_token_goes_on(etcd: GrpcEtcd, guarded: Cluster) -> None:
    revision = await etcd.put(OURS + "a", b"1")
    tokens = etcd._calls.tokens
    assert tokens is not None
    tokens._token = "forgotten.1"
    async with aclosing(etcd.watch(OURS, revision)) as batches, asyncio.timeout(20):
        assert (await anext(batches)).revision == revision


# Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def closed(certificates: Certificates) -> Iterator[Cluster]:
    """A member that wants to see a certificate."""
    with run_cluster(["closed"], certificates) as cluster:
        yield cluster


def settings_of(cluster: Cluster, certificates: Certificates, **changes: object) -> EtcdSettings:
    return EtcdSettings(
        **{
            "endpoints": tuple(cluster.urls),
            "ca_file": certificates.path("ca.crt"),
            "cert_file": certificates.path("client.crt"),
            "key_file": certificates.path("client.key"),
            "call_timeout": PATIENT,
            **changes,
        }
    )


NO_SECRETS = Secrets(Path("/nonexistent"), {})


async def test_both_sides_show_their_certificates(closed: Cluster, certificates: Certificates) -> None:
    etcd = connect(settings_of(closed, certificates), NO_SECRETS, SystemClock())
    try:
        revision = await etcd.put(OURS, b"1")
        async with aclosing(etcd.watch(OURS, revision)) as batches, asyncio.timeout(PATIENT):
            assert (await anext(batches)).revision == revision
    finally:
        await etcd.aclose()


async def test_without_a_certificate_of_ours_nothing_is_sent(
    closed: Cluster, certificates: Certificates
) -> None:
    settings = settings_of(closed, certificates, cert_file=None, key_file=None, call_timeout=0.5)
    etcd = connect(settings, NO_SECRETS, SystemClock())
    try:
        with pytest.raises(EtcdUnknown):
            await etcd.put(OURS, b"1")
    finally:
        await etcd.aclose()


async def test_a_member_with_a_foreign_authority_is_not_spoken_to(
    closed: Cluster, certificates: Certificates, tmp_path: Path
) -> None:
    foreign = make_certificates(tmp_path)
    settings = settings_of(closed, certificates, ca_file=foreign.path("ca.crt"), call_timeout=0.5)
    etcd = connect(settings, NO_SECRETS, SystemClock())
    try:
        with pytest.raises(EtcdUnknown, match="nothing was sent"):
            await etcd.put(OURS, b"1")
    finally:
        await etcd.aclose()


# Both at once


@pytest.fixture(scope="module")
def strict(certificates: Certificates) -> Iterator[Cluster]:
    """A member that wants to see a certificate *and* a password: user `hotsite`, with rights below /hotsite/ only."""
    with run_cluster(["strict"], certificates) as cluster:
        cluster.enable_authentication("right", user="hotsite", readable=OURS)
        yield cluster


def password(value: str) -> Secrets:
    return Secrets(Path("/nonexistent"), {"HOTSITE_SECRET_ETCD_PASSWORD": value})


async def test_with_certificate_and_password_everything_of_ours_works(
    strict: Cluster, certificates: Certificates
) -> None:
    etcd = connect(settings_of(strict, certificates, user="hotsite"), password("right"), SystemClock())
    try:
        lease = await etcd.grant(60)
        revision = await etcd.put(OURS + "a", b"1", lease=lease)
        async with aclosing(etcd.watch(OURS, revision)) as batches, asyncio.timeout(PATIENT):
            assert (await anext(batches)).revision == revision
            unchanged = Compare(key=OURS + "a", target=Target.MOD_REVISION, to=revision)
            written = await etcd.txn([unchanged], [Put(key=OURS + "a", value=b"2", lease=lease)])
            assert written.succeeded
            batch = await anext(batches)
            assert [event.kv.value for event in batch.events] == [b"2"]
            assert not (await etcd.txn([unchanged], [Put(key=OURS + "a", value=b"3")])).succeeded
        assert await etcd.keep_alive(lease) == 60
        assert [member.name for member in await etcd.members()] == ["strict"]
        await etcd.revoke(lease)
        assert (await etcd.get(OURS + "a")).one is None
    finally:
        await etcd.aclose()


async def test_a_certificate_does_not_stand_in_for_rights_or_for_a_password(
    strict: Cluster, certificates: Certificates
) -> None:
    for user, secret, key, refusal in (
        ("hotsite", "right", THEIRS, "permission denied"),
        ("hotsite", "wrong", OURS, "authentication failed"),
        (None, "", OURS, "permission denied"),  # etcd takes the common name for a user, who is none
    ):
        etcd = connect(settings_of(strict, certificates, user=user), password(secret), SystemClock())
        try:
            with pytest.raises(EtcdRefused, match=refusal):
                await etcd.put(key, b"1")
            with pytest.raises(EtcdRefused, match=refusal):
                await anext(etcd.watch(key, 1))
        finally:
            await etcd.aclose()


async def test_a_password_does_not_stand_in_for_a_certificate(
    strict: Cluster, certificates: Certificates
) -> None:
    settings = settings_of(
        strict, certificates, user="hotsite", cert_file=None, key_file=None, call_timeout=0.5
    )
    etcd = connect(settings, password("right"), SystemClock())
    try:
        with pytest.raises(EtcdUnknown):
            await etcd.put(OURS, b"1")
    finally:
        await etcd.aclose()


# Mistakes in the settings


async def test_a_missing_certificate_is_named_with_its_setting(
    closed: Cluster, certificates: Certificates
) -> None:
    settings = settings_of(closed, certificates, ca_file=Path("/nonexistent/ca.crt"))
    with pytest.raises(SettingsError, match=r"etcd\.ca_file.*/nonexistent/ca\.crt"):
        connect(settings, NO_SECRETS, SystemClock())


async def test_a_missing_password_is_named_with_its_cure(etcd_member: Cluster) -> None:
    settings = EtcdSettings(endpoints=tuple(etcd_member.urls), user="hotsite")
    with pytest.raises(SettingsError, match="HOTSITE_SECRET_ETCD_PASSWORD"):
        connect(settings, NO_SECRETS, SystemClock())
