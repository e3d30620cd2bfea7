"""Who is put out, for how long, and who never is: properties over any course of events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from yuanlian.gateway.upstreams.ejection import EjectionPolicy, Ejector, Record

_POLICY = EjectionPolicy(failures=3, first_s=5, longest_s=20, share=0.5)
_EVENTS = st.lists(st.tuples(st.integers(0, 7), st.booleans(), st.integers(0, 10)), max_size=200)


@given(st.integers(1, 8), _EVENTS)
def test_a_share_stays_in_and_everybody_comes_back(count: int, events: list[tuple[int, bool, int]]) -> None:
    ejector = Ejector(_POLICY)
    records = [Record() for _ in range(count)]
    in_a_row = [0] * count
    now = 0.0
    for who, succeeds, pause in events:
        now += pause
        out = [index for index, record in enumerate(records) if record.ejected]
        ejector.release(records, now)
        for index in out:
            if not records[index].ejected:
                in_a_row[index] = _POLICY.failures - 1  # on probation
        assert all(record.until > now for record in records if record.ejected)
        record, index = records[who % count], who % count
        was_in = not record.ejected
        if succeeds:
            record.failures = in_a_row[index] = 0
            continue
        in_a_row[index] += 1
        if ejector.failed(record, records, now):
            assert was_in
            assert in_a_row[index] >= _POLICY.failures
            assert _POLICY.first_s <= record.until - now <= _POLICY.longest_s
        assert sum(record.ejected for record in records) <= count / 2
    ejector.release(records, now + _POLICY.longest_s)
    assert not any(record.ejected for record in records)


def test_it_takes_failures_in_a_row() -> None:
    ejector, records = Ejector(_POLICY), [Record(), Record()]
    assert [ejector.failed(records[0], records, 0) for _ in range(2)] == [False, False]
    records[0].failures = 0  # a success
    assert [ejector.failed(records[0], records, 0) for _ in range(3)] == [False, False, True]


def test_each_time_lasts_twice_as_long_and_good_conduct_is_remembered() -> None:
    ejector, records = Ejector(_POLICY), [Record(), Record()]
    bad, now, lasted = records[0], 0.0, []
    for _ in range(4):
        while not ejector.failed(bad, records, now):
            pass
        lasted.append(bad.until - now)
        now = bad.until
        assert ejector.release(records, now)
    assert lasted == [5, 10, 20, 20]
    # On probation the first failure is enough.
    assert ejector.failed(bad, records, now)
    now = bad.until
    ejector.release(records, now)
    bad.failures = 0
    now += 3600
    while not ejector.failed(bad, records, now):
        pass
    assert bad.until - now == 5


def test_one_alone_is_never_put_out() -> None:
    ejector, record = Ejector(_POLICY), Record()
    assert not any(ejector.failed(record, [record], 0) for _ in range(100))
