"""Templates with typed variables."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import encoding
from dispatcher.campaigns.templates import Faulty, Misfit, Template, literal
from dispatcher.campaigns.variables import Currency, Reading, Style, Type, Unfit, Variable, from_json, writer

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40)


def variable(type_: Type = Type.TEXT, name: str = "x", **options: object) -> Variable:
    return Variable(name=name, type=type_, **options)  # type: ignore[arg-type]


def faults(text: str, *variables: Variable) -> dict[str, str]:
    with pytest.raises(Faulty) as faulty:
        Template(text, variables)
    return {fault.field: fault.message for fault in faulty.value.faults}


def misfits(template: Template, values: dict[str, str]) -> dict[str, str]:
    with pytest.raises(Faulty) as faulty:
        template.render(values)
    return {fault.field: fault.message for fault in faulty.value.faults}


@pytest.mark.parametrize(
    ("declared", "given_", "written"),
    [
        (variable(), "  Main St. ", "Main St."),
        (variable(max_length=3), "abc", "abc"),
        (variable(default="customer"), " ", "customer"),
        (variable(default=""), "", ""),
        (variable(Type.NUMBER), "007.50", "7.50"),
        (variable(Type.NUMBER), "-0", "0"),
        (variable(Type.NUMBER), "-3", "-3"),
        (variable(Type.NUMBER, decimals=2), "7", "7.00"),
        (variable(Type.NUMBER, decimals=1), "7.500", "7.5"),
        (variable(Type.NUMBER, decimals=0), "7.0", "7"),
        (variable(Type.AMOUNT), "1234.5", None),
        (variable(Type.AMOUNT), "1234.50", "$1,234.50"),
        (variable(Type.AMOUNT), "$1,234", "$1,234.00"),
        (variable(Type.AMOUNT, currency=Currency.EUR), "-0.05", "-€0.05"),
        (variable(Type.AMOUNT), "12,34", None),
        (variable(Type.DATE), "2026-01-31", "Jan 31"),
        (variable(Type.DATE, style=Style.LONG), "2026-01-31", "January 31, 2026"),
        (variable(Type.DATE, style=Style.WEEKDAY), "2026-01-31", "Sat, Jan 31"),
        (variable(Type.DATE, style=Style.ISO, reading=Reading.US), "1/31/2026", "2026-01-31"),
        (variable(Type.DATE, reading=Reading.DOTS), "31.1.2026", "Jan 31"),
        (variable(Type.DATE), "2026-02-30", None),
        (variable(Type.DATE), "31/01/2026", None),
        (variable(Type.TIME), "17:00", "5 pm"),
        (variable(Type.TIME), "0:05", "12:05 am"),
        (variable(Type.TIME), "12:00:30 p.m.", "12 pm"),
        (variable(Type.TIME, style=Style.WHOLE_DAY), "5:30 PM", "17:30"),
        (variable(Type.TIME), "24:00", None),
        (variable(Type.TIME), "13 pm", None),
        (variable(Type.TIME), "5", None),
        (variable(Type.URL), "https://example.com/o?id=1", "https://example.com/o?id=1"),
        (variable(Type.URL), "http://example.com", None),
        (variable(Type.URL), "https://", None),
        (variable(Type.URL), "https://example.com:99999/", None),
        (variable(Type.URL, max_length=19), "https://example.com/", None),
        (variable(Type.URL), "https://example.com/`", None),
        (variable(Type.PHONE), "+16145550123", "614-555-0123"),
        (variable(Type.PHONE), "+442079460123", "+44 20 7946 0123"),
        (variable(Type.PHONE), "614-555-0123", None),
        (variable(), "a\tb", None),
        (variable(), "a\ud800b", None),
        (variable(), "family 👩\u200d👧", "family 👩\u200d👧"),
        (variable(max_length=3), "abcd", None),
    ],
)  # fmt: skip
def test_a_value_is_written_as_its_type_says_or_refused(declared, given_, written):
    if written is None:
        with pytest.raises(Unfit):
            writer(declared)(given_)
    else:
        assert writer(declared)(given_) == written
        assert len(written) <= declared.longest


def test_a_template_renders_its_values_and_its_own_braces():
    template = Template("{{{x}}} is {y}, {x}", [variable(), variable(Type.NUMBER, "y")])
    assert template.render({"x": "A", "y": "1"}) == "{A} is 1, A"


def test_every_missing_unknown_and_unfit_value_is_named():
    template = Template(
        "{name} {due} {eta}",
        [variable(name="name"), variable(Type.DATE, "due"), variable(Type.TIME, "eta", default="")],
    )
    wrong = misfits(template, {"nam": "A", "due": "tomorrow"})
    assert wrong == {
        "nam": "is no variable of this template; did you mean name?",
        "name": "is missing",
        "due": "is not a day written YYYY-MM-DD",
    }


def test_a_gap_without_its_variable_and_a_variable_without_its_gap_are_named():
    wrong = faults("Due {duedate}.", variable(name="due_date"))
    assert wrong == {
        "text": "uses {duedate}, which is not declared; did you mean due_date?",
        "variables.due_date": "is declared, and the text does not use it",
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must not be empty"),
        (" \n", "must not be empty"),
        ("a } b", "has a lone } at index 2"),
        ("a { b", "has a lone { at index 2"),
        ("{Name}", "has {Name} at index 0, which cannot be a variable's name"),
        ("{a b}", "has {a b} at index 0"),
        ("a\0b", "holds U+0000 at index 1"),
        ("a\ud83d", "holds U+D83D at index 1"),
        ("x" * 2_001, "has 2001 characters"),
    ],
)
def test_a_text_that_cannot_be_one_is_refused_with_the_place(text, why):
    assert faults(text)["text"].startswith(why)


@pytest.mark.parametrize(
    ("declared", "field"),
    [
        (variable(name="X"), "name"),
        (variable(decimals=2), "decimals"),
        (variable(Type.DATE, style=Style.WHOLE_DAY), "style"),
        (variable(max_length=0), "max_length"),
        (variable(Type.NUMBER, decimals=9), "decimals"),
        (variable(Type.DATE, default="soon"), "default"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_by_its_field(declared, field):
    assert f"variables.{declared.name}.{field}" in faults(f"{{{declared.name}}}", declared)


def test_a_variable_that_is_declared_twice_is_refused():
    assert faults("{x}", variable(), variable(Type.DATE))["variables.x"] == "is declared twice"


@given(TEXT, TEXT.filter(str.strip))
def test_whatever_a_value_holds_it_stands_in_the_text_as_it_is(fixed, value):
    template = Template(literal(fixed) + "{x}", [variable()])
    assert template.render({"x": value}) == fixed + value.strip()


@given(st.text("{}ab_ ", max_size=30))
def test_any_text_is_a_template_or_is_refused(text):
    try:
        template = Template(text, [])
    except Faulty:
        return
    assert literal(template.render({})) == text


@given(st.lists(TEXT.filter(str.strip), min_size=3, max_size=3))
def test_a_row_renders_as_its_values_by_name_do(values):
    declared = [variable(name=name) for name in ("a", "b", "c")]
    template = Template("{c}-{a}-{b}-{a}", declared)
    named = dict(zip("abc", values, strict=True))
    row = template.for_columns(["to", "c", "b", "a"])
    assert row(["", values[2], values[1], values[0]]) == template.render(named)


def test_a_row_names_the_variable_that_does_not_fit():
    row = Template("{a} {b}", [variable(name="a"), variable(Type.DATE, "b")]).for_columns(["a", "b"])
    with pytest.raises(Misfit) as misfit:
        row(["x", "soon"])
    assert (misfit.value.name, misfit.value.value) == ("b", "soon")


def test_a_column_that_is_not_there_is_filled_by_the_default():
    template = Template("{a} {b}", [variable(name="a"), variable(name="b", default="none")])
    assert template.for_columns(["a"])(["x"]) == "x none"


VALUES = {
    Type.TEXT: st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=60, max_size=60),
    Type.NUMBER: st.decimals(-(10**14), 10**14, places=6).map(str),
    Type.AMOUNT: st.decimals(0, 10**11, places=2).map(str),
    Type.DATE: st.dates(date(1, 1, 1)).map(str),
    Type.TIME: st.times().map(lambda time: time.strftime("%H:%M")),
    Type.URL: st.text("ab~[]%", max_size=80).map("https://example.com/".__add__),
    Type.PHONE: st.just("+16145550123"),
}  # fmt: skip


@given(st.text("a€[é ş", min_size=1, max_size=170), st.sampled_from(Type), st.data())
def test_no_value_makes_more_segments_than_the_preview_says(fixed, type_, data):
    template = Template("." + fixed + "{x}{x}", [variable(type_)])
    text = template.render({"x": data.draw(VALUES[type_].filter(str.strip))})
    at_most = template.at_most()
    assert encoding.count_segments(text, encoding.choose(text)) <= at_most.segments


@given(
    st.builds(
        Variable,
        name=st.just("x"),
        type=st.sampled_from(Type),
        default=st.none() | TEXT,
        style=st.none() | st.sampled_from(Style),
        currency=st.none() | st.sampled_from(Currency),
    )
)
def test_a_declaration_survives_being_stored(declared):
    assert from_json(declared.as_json()) == declared
