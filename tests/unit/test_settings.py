"""Settings: what is refused, and how every mistake is explained."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from sitecontrol.settings import Environment, Secrets, Settings, SettingsError, load
from sitecontrol.settings_forms import are_sections, example, is_section, kind_at, toml
from tests.unit.test_settings_lines import VALUES, Writer

GOOD = """\
[site]
name = "columbus"
node = "columbus-a"
state_dir = "/var/lib/hotsite"
secrets_dir = "/etc/hotsite/secrets"

[[place]]
name = "columbus"
nodes = [{ name = "columbus-a", postgres = "10.1.0.1:5432", agent = "http://10.1.0.1:8008" }]

[[place]]
name = "witness"
kind = "witness"

[etcd]
endpoints = ["http://10.1.0.1:2379"]

[failover]
lease_ttl = 3
renew_every = 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "columbus.toml"


def mistakes(file: Path, text: str) -> list[str]:
    """The lines of the refusal, without the name of the file."""
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as refusal:
        load(file)
    lines = str(refusal.value).splitlines()
    assert all(line.startswith(str(file)) for line in lines)
    return [line.removeprefix(f"{file}:") for line in lines]


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_a_good_file_is_read(file: Path) -> None:
    file.write_text(GOOD)
    settings = load(file)
    assert settings.here.nodes[0].name == "columbus-a"
    assert settings.site.environment is Environment.PRODUCTION
    assert settings.site.state_dir == Path("/var/lib/hotsite")
    assert (settings.failover.lease_ttl, settings.failover.renew_every) == (3, 1.0)


def test_a_number_out_of_bounds_is_told_its_bounds(file: Path) -> None:
    assert mistakes(file, changed("lease_ttl = 3", "lease_ttl = 1")) == [
        "19: failover.lease_ttl = 1: must be a whole number, at least 2 and at most 60; for example: lease_ttl = 2"
    ]


@pytest.mark.parametrize("value", ['"3"', "3.5", "true", "[3]", "{ x = 3 }", "inf", "nan", "1979-05-27"])
def test_a_whole_number_is_nothing_else(file: Path, value: str) -> None:
    (line,) = mistakes(file, changed("lease_ttl = 3", f"lease_ttl = {value}"))
    assert line.startswith("19: failover.lease_ttl = ")
    assert "must be a whole number" in line


@pytest.mark.parametrize("value", ['"1"', "true", "0", "inf", "nan"])
def test_a_duration_is_a_positive_number(file: Path, value: str) -> None:
    (line,) = mistakes(file, changed("renew_every = 1", f"renew_every = {value}"))
    assert line.startswith("20: failover.renew_every = ")
    assert line.endswith("more than 0 and at most 86400; for example: renew_every = 0.5")


def test_an_unknown_setting_suggests_the_nearest(file: Path) -> None:
    assert mistakes(file, changed("renew_every", "renew_evry")) == [
        "20: failover.renew_evry: there is no such setting; did you mean renew_every?"
    ]


def test_an_unknown_section_suggests_the_nearest(file: Path) -> None:
    assert mistakes(file, changed("[failover]", "[fallover]")) == [
        "18: fallover: there is no such setting; did you mean failover?"
    ]


def test_a_setting_in_the_wrong_section_is_told_where_it_belongs(file: Path) -> None:
    assert mistakes(file, changed("[etcd]\n", "[etcd]\nlease_ttl = 2\n")) == [
        "16: etcd.lease_ttl: there is no such setting; it belongs to [failover]"
    ]


def test_an_unknown_setting_like_no_other_is_told_the_known_ones(file: Path) -> None:
    (line,) = mistakes(file, changed('postgres = "10.1.0.1:5432"', 'postgres = "10.1.0.1:5432", qqq = 1'))
    assert line == "9: place[0].nodes[0].qqq: there is no such setting; known here: agent, name, postgres"


def test_a_missing_setting_is_told_at_its_section_with_an_example(file: Path) -> None:
    assert mistakes(file, changed('state_dir = "/var/lib/hotsite"\n', "")) == [
        '1: site.state_dir is missing; add: state_dir = "/etc/hotsite/file"'
    ]


def test_a_missing_section_is_told(file: Path) -> None:
    text = changed('[etcd]\nendpoints = ["http://10.1.0.1:2379"]\n', "")
    assert mistakes(file, text) == ["1: etcd is missing; add a section [etcd]"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("[carrier]\nname = 'a'", "carrier must be one or more sections, each headed [[carrier]]"),
        ("[[agent]]", "agent must be a section, headed [agent]"),
    ],
)
def test_the_wrong_kind_of_section_is_told_the_right_header(file: Path, section: str, message: str) -> None:
    assert mistakes(file, GOOD + section) == [f"21: {message}"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"10.1.0.1:5432"', '"10.1.0.1"', '9: place[0].nodes[0].postgres = "10.1.0.1": must be HOST:PORT'),
        (
            '"10.1.0.1:5432"',
            '"h:99999"',
            '9: place[0].nodes[0].postgres = "h:99999": a port is at most 65535',
        ),
        ('kind = "witness"', 'kind = "wit"', '13: place[1].kind = "wit": must be "site", or "witness"'),
        ('["http://10.1.0.1:2379"]', "[]", "16: etcd.endpoints = []: must be a list"),
        ('["http://10.1.0.1:2379"]', '["http://a", "b"]', '16: etcd.endpoints[1] = "b": must be a http://'),
        ('name = "witness"', 'name = "Witness 1"', '12: place[1].name = "Witness 1": must be a small letter'),
    ],
)
def test_a_text_of_the_wrong_form_is_told_the_right_one(file: Path, old: str, new: str, message: str) -> None:
    (line,) = mistakes(file, changed(old, new))
    assert line.startswith(message)
    assert "for example" in line


def test_a_choice_of_kinds_is_explained_once(file: Path) -> None:
    (line,) = mistakes(
        file,
        GOOD + '[replication]\ndata_dir = "/d"\nlisten = "h:1"\nparameters = { work_mem = ["4MB"] }\n',
    )
    assert line.startswith('24: replication.parameters.work_mem = ["4MB"]: must be text in quotes, a whole')


def test_all_mistakes_are_told_in_the_order_of_the_file(file: Path) -> None:
    text = (
        changed("lease_ttl = 3", "lease_ttl = 1")
        .replace('kind = "witness"', "kind = 1")
        .replace("[etcd]", "[etc]")
    )
    assert [line.partition(":")[0] for line in mistakes(file, text)] == ["1", "13", "15", "19"]


def test_a_site_that_is_none_of_the_places_is_told_them(file: Path) -> None:
    assert mistakes(file, changed('[site]\nname = "columbus"', '[site]\nname = "denver"')) == [
        '2: site.name = "denver": no [[place]] has that name, only: columbus, witness'
    ]


def test_assumed_consent_is_refused_outside_a_lab(file: Path) -> None:
    (line,) = mistakes(file, GOOD + '[dispatcher]\nconsent = "assumed"\n')
    assert line.startswith('22: dispatcher.consent = "assumed": is for labs only; use consent = "required"')


def test_a_text_is_not_sent_again_while_a_silent_link_may_still_bring_its_first_copy(file: Path) -> None:
    carrier = '[[carrier]]\nname = "aurora"\naddress = "smsc.example.com:2775"\nsystem_id = "me"\n'
    carrier += "response_timeout = 20\n"
    (line,) = mistakes(file, GOOD + "[dispatcher]\ndoubt_grace = 40\n" + carrier)
    assert line.startswith(
        "22: dispatcher.doubt_grace = 40: must be more than twice the response_timeout of carrier 'aurora'"
    )
    file.write_text(GOOD + "[dispatcher]\ndoubt_grace = 41\n" + carrier)
    assert load(file).dispatcher.doubt_grace == 41


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ('cert_file = "/c"', '17: etcd.cert_file = "/c": is of use only together with key_file'),
        ('key_file = "/k"', '17: etcd.key_file = "/k": is of use only together with cert_file'),
        ('ca_file = "/a"', '16: etcd.endpoints[0] = "http://10.1.0.1:2379": has no use for certificates'),
    ],
)
def test_half_of_a_certificates_settings_is_refused(file: Path, added: str, message: str) -> None:
    text = changed(
        'endpoints = ["http://10.1.0.1:2379"]\n', f'endpoints = ["http://10.1.0.1:2379"]\n{added}\n'
    )
    (line,) = mistakes(file, text)
    assert line.startswith(message)


@pytest.mark.parametrize(
    ("given", "other"), [("tls_cert_file", "tls_key_file"), ("tls_key_file", "tls_cert_file")]
)
def test_half_of_a_servers_certificate_is_refused_and_not_taken_for_none(
    file: Path, given: str, other: str
) -> None:
    (line,) = mistakes(file, GOOD + f'[security]\n{given} = "/c"\n')
    assert line.startswith(f'22: security.{given} = "/c": is of use only together with {other}')


def test_a_long_value_is_cut_short(file: Path) -> None:
    (line,) = mistakes(file, changed('name = "witness"', f'name = "{"w" * 5_000}"'))
    assert len(line) < 300


# Files that are no TOML


def test_a_line_that_is_no_toml_is_named(file: Path) -> None:
    (line,) = mistakes(file, changed("lease_ttl = 3", "lease_ttl 3"))
    assert line.startswith("19: not TOML: ")


def test_a_setting_written_twice_is_named(file: Path) -> None:
    (line,) = mistakes(file, changed("lease_ttl = 3", "lease_ttl = 3\nlease_ttl = 3"))
    assert line.startswith("20: not TOML: Cannot overwrite a value")


def test_an_unfinished_file_is_no_toml(file: Path) -> None:
    (line,) = mistakes(file, GOOD + "x = [")
    assert "not TOML" in line


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: No such file"):
        load(tmp_path / "none.toml")


def test_a_folder_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Is a directory"):
        load(tmp_path)


def test_a_file_that_is_no_text_is_told(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load(file)


SETTINGS_LIKE = st.dictionaries(
    st.sampled_from(sorted(Settings.model_fields)),
    VALUES | st.dictionaries(st.sampled_from(["name", "nodes", "listen", "lease_ttl", "endpoints"]), VALUES),
    max_size=4,
)


@given(st.data(), SETTINGS_LIKE)
def test_no_values_whatsoever_break_the_explanation(data: st.DataObject, values: dict[str, Any]) -> None:
    writer = Writer(data.draw)
    writer.table(values)
    with tempfile.TemporaryDirectory() as folder:
        lines = mistakes(Path(folder) / "any.toml", writer.text)
    assert lines
    assert all(1 <= int(line.partition(":")[0]) <= writer.text.count("\n") + 1 for line in lines)


# Values that would do


def sections(model: type[BaseModel] = Settings) -> Iterator[type[BaseModel]]:
    yield model
    for name in model.model_fields:
        for path in ((name,), (name, 0)):
            kind = kind_at(model, path)
            if kind is not None and is_section(kind):
                yield from sections(kind.base)


SETTINGS = [(section, name) for section in dict.fromkeys(sections()) for name in section.model_fields]


@pytest.mark.parametrize(
    ("price", "message"),
    [
        (
            '{ per_segment = 0.0075, currency = "USD" }',
            "carrier[0].price.per_segment = 0.0075: must be a decimal number in quotes",
        ),
        (
            '{ per_segment = "0.0075", currency = "$" }',
            'carrier[0].price.currency = "$": must be a currency\'s three letters',
        ),
        ('{ per_segment = "0.0075" }', 'carrier[0].price.currency is missing; add: currency = "USD"'),
        ('"0.0075 USD"', "carrier[0].price must be a section, headed [carrier.price]"),
    ],
)
def test_a_price_is_an_exact_amount_with_its_currency(file: Path, price: str, message: str) -> None:
    carrier = (
        f'\n[[carrier]]\nname = "northline"\naddress = "127.0.0.1:1"\nsystem_id = "x"\nprice = {price}\n'
    )
    [mistake] = mistakes(file, GOOD + carrier)
    assert message in mistake


@pytest.mark.parametrize("value", ["10.1.0.20/24", "lb.example.net", "10.1.0.0/33", ""])
def test_a_source_that_is_neither_address_nor_network_is_refused_with_both_forms(
    file: Path, value: str
) -> None:
    [mistake] = mistakes(file, f'{GOOD}\n[dispatcher]\nuncapped_sources = ["192.0.2.1", "{value}"]\n')
    assert "dispatcher.uncapped_sources[1]" in mistake
    assert 'for example: "10.1.0.20", or "10.1.0.0/24"' in mistake


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('bind_as = "both"', 'carrier[0].bind_as = "both": must be'),
        ('request = "data_sm"\nlong_text = "payload"', 'long_text = "payload": says nothing with request'),
        ('short_code_rates = { "12345" = 0 }', "short_code_rates.12345 = 0: must be a number, more than 0"),
        ("query_after = 0", "query_after = 0: must be a number"),
    ],
)
def test_a_carrier_that_cannot_be_used_so_is_refused(file: Path, line: str, told: str) -> None:
    carrier = f'\n[[carrier]]\nname = "northline"\naddress = "127.0.0.1:1"\nsystem_id = "x"\n{line}\n'
    assert told in "\n".join(mistakes(file, GOOD + carrier))


@pytest.mark.parametrize(("section", "name"), SETTINGS)
def test_every_example_given_is_one_that_the_setting_takes(section: type[BaseModel], name: str) -> None:
    kind = kind_at(section, (name,))
    assert kind is not None
    value = example(kind)
    if value is None:
        tables = ("parameters", "addresses", "short_code_rates")  # of names that only the operator knows
        assert is_section(kind) or are_sections(kind) or name in tables
    else:
        TypeAdapter(get_type_hints(section, include_extras=True)[name]).validate_json(value, strict=True)


def test_what_json_cannot_write_is_written_as_toml() -> None:
    assert [toml(value) for value in (float("inf"), float("nan"), True, "ü", 1.5)] == [
        "inf",
        "nan",
        "true",
        '"ü"',
        "1.5",
    ]


# Secrets


def test_a_secret_comes_from_the_environment_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "etcd-password").write_text("from the file\n")
    assert Secrets(tmp_path, {}).get("etcd-password") == "from the file"
    secrets = Secrets(tmp_path, {"HOTSITE_SECRET_ETCD_PASSWORD": "from the environment"})
    assert secrets.get("etcd-password") == "from the environment"


def test_a_missing_secret_is_told_both_places(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"operator-token.*HOTSITE_SECRET_OPERATOR_TOKEN"):
        Secrets(tmp_path, {}).get("operator-token")


def test_a_secret_that_may_not_be_read_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object, **__: object) -> str:  # a mode closes nothing to root
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_text", closed)
    with pytest.raises(SettingsError) as told:
        Secrets(tmp_path, {}).get("operator-token")
    path = tmp_path / "operator-token"
    assert "missing" not in str(told.value)
    assert f"`chown {os.geteuid()} {path}` and `chmod 600 {path}`" in str(told.value)


def test_a_secret_that_is_no_text_is_told_without_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "operator-token").write_bytes(b"s3cret\xff\n")
    with pytest.raises(SettingsError, match=r"is no text: .*operator-token must hold UTF-8") as told:
        Secrets(tmp_path, {}).get("operator-token")
    assert "s3cret" not in str(told.value)
    assert told.value.__cause__ is None


def test_a_secret_that_cannot_be_read_for_another_reason_is_told_with_it(tmp_path: Path) -> None:
    (tmp_path / "operator-token").mkdir()
    with pytest.raises(SettingsError, match=r"cannot be read from .*operator-token: Is a directory"):
        Secrets(tmp_path, {}).get("operator-token")


CARRIERS = """
[[carrier]]
name = "northline"
address = "127.0.0.1:1"
system_id = "x"
%s

[[carrier]]
name = "southcell"
address = "127.0.0.1:2"
system_id = "x"
%s
"""


@pytest.mark.parametrize(
    ("north", "south", "told"),
    [
        ("weight = -1", "", "carrier[0].weight = -1: must be a whole number, at least 0 and at most 1000"),
        (
            "priority = 101",
            "",
            "carrier[0].priority = 101: must be a whole number, at least 0 and at most 100",
        ),
        (
            'prefixes = ["1614"]',
            "",
            (
                'carrier[0].prefixes[0] = "1614": must be the beginning of a number in E.164 form, with +, in quotes;'
                ' for example: "+1614"'
            ),
        ),
        (
            'prefixes = ["+1"]\nrefused_prefixes = ["+44", "+1"]',
            "",
            'carrier[0].refused_prefixes[1] = "+1": stands in prefixes, too; remove it from one of them',
        ),
        ('short_codes = [""]', "", 'carrier[0].short_codes[0] = "": must be a short code'),
        (
            'programs = "outage"',
            "",
            'carrier[0].programs = "outage": must be a list, each the name of a program',
        ),
        ("", "wait = 3", "carrier[1].wait: there is no such setting"),
    ],
)
def test_what_a_carrier_carries_is_checked(file: Path, north: str, south: str, told: str) -> None:
    assert told in "\n".join(mistakes(file, GOOD + CARRIERS % (north, south)))


def test_two_carriers_of_one_name_are_refused(file: Path) -> None:
    text = GOOD + (CARRIERS % ("", "")).replace("southcell", "northline")
    [mistake] = mistakes(file, text)
    assert 'carrier[1].name = "northline": another carrier has this name' in mistake


PRICE = 'price = { per_segment = "0.01", currency = "%s" }'


@pytest.mark.parametrize(
    ("north", "south", "told"),
    [
        (PRICE % "USD", "", "carrier[1].price: is missing at southcell"),
        (
            PRICE % "USD",
            PRICE % "EUR",
            'carrier[1].price.currency = "EUR": dispatcher.route_by = "cost" compares',
        ),
    ],
)
def test_by_cost_every_carrier_has_a_price_in_one_currency(
    file: Path, north: str, south: str, told: str
) -> None:
    chosen = GOOD + '[dispatcher]\nroute_by = "cost"\n' + CARRIERS
    assert told in "\n".join(mistakes(file, chosen % (north, south)))
    file.write_text(chosen % (PRICE % "USD", PRICE % "USD"))
    assert load(file).dispatcher.route_by == "cost"
