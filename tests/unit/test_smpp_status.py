import pytest
import smpplib.consts

from dispatcher.smpp.status import STATUSES, CommandStatus, StatusClass, describe


def test_every_status_of_the_specification_is_described():
    assert set(STATUSES) == set(CommandStatus)
    for status in STATUSES.values():
        assert status.sentence.endswith(".")


@pytest.mark.parametrize("status", CommandStatus)
def test_codes_agree_with_smpplib(status):
    assert getattr(smpplib.consts, f"SMPP_{status.name}") == status


def test_only_rok_is_ok_and_only_two_mean_too_fast():
    by_class = {c: {s.code for s in STATUSES.values() if s.status_class is c} for c in StatusClass}
    assert by_class[StatusClass.OK] == {0}
    assert by_class[StatusClass.THROTTLED] == {0x58, 0x14}


def test_a_vendors_code_may_be_tried_again_and_an_undefined_one_not():
    assert describe(0x401).status_class is StatusClass.TEMPORARY
    assert describe(0x12345).status_class is StatusClass.PERMANENT
    assert "0x401" in describe(0x401).sentence
