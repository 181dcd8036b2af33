"""A secret does not show itself by accident."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from store.records import Secret
from tests.fakes.records import make_credential, make_key

TEXT = "refresh-token-very-secret"


def test_no_print_of_a_secret_or_of_its_record_shows_it() -> None:
    secret = Secret(TEXT)
    credential = make_credential(access_token=secret, refresh_token=secret, id_token=secret)
    for shown in (str(secret), repr(secret), f"{secret}", f"{secret!r:>30}", repr(credential), str([credential])):
        assert TEXT not in shown
    assert repr(make_key().digest) not in repr(make_key())


def test_a_secret_is_not_serialised() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret(TEXT))
    with pytest.raises(TypeError):
        copy.deepcopy(Secret(TEXT))
    with pytest.raises(TypeError):
        json.dumps(Secret(TEXT))


def test_a_secret_reveals_itself_when_asked_and_compares_by_value() -> None:
    assert Secret(TEXT).reveal() == TEXT
    assert Secret(TEXT) == Secret(TEXT)
    assert Secret(TEXT) != Secret("another")
    assert Secret(TEXT) != TEXT
    assert len({Secret(TEXT), Secret(TEXT)}) == 1
    assert not Secret("")
