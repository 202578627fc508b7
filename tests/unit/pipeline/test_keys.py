from __future__ import annotations

import random

import numpy as np

from pipeline.keys import KeySet, Places, hash_keys, pack
from pipeline.records import digest


def test_a_set_of_keys_does_what_a_set_does() -> None:
    # keys of 32 hex digits that end in zero bytes, and others
    keys = [digest(n) for n in range(50)] + ["ab" * 8 + "00" * 8, "u1", "", "00" * 16]
    some = KeySet(keys[:40] + keys[:5])
    assert len(some) == 40
    assert all(key in some for key in keys[:40])
    assert not any(key in some for key in keys[40:])
    assert len({some.place(key) for key in keys[:40]}) == 40
    assert some.place(keys[45]) == -1
    assert KeySet(keys) - some == KeySet(keys[40:])
    assert some | KeySet(keys[30:]) == KeySet(keys)
    assert some.holds(pack(keys)).tolist() == [True] * 40 + [False] * (len(keys) - 40)
    assert not KeySet().holds(pack(keys)).any()
    assert KeySet() - some == KeySet()


def test_places_are_those_of_all_rows_with_a_key() -> None:
    keys = [f"k{random.Random(n).randrange(20)}" for n in range(100)]
    places = Places(keys)
    for key in {*keys, "none"}:
        assert list(places.of(key)) == [n for n in reversed(range(100)) if keys[n] == key]
    assert places.last(hash_keys(["k3", "none"])).tolist() == [max(n for n in range(100) if keys[n] == "k3"), -1]
    assert Places([]).last(hash_keys(["a"])).tolist() == [-1]
    assert np.array_equal(Places(["a"]).last(hash_keys([])), np.empty(0))
