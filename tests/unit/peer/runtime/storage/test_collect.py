"""Whom collection evicts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peer.runtime.storage.collect import (
    Candidate,
    CollectPolicy,
    Eviction,
    Reason,
    choose_evictions,
)

NOW_S = 1_000_000.0
TTL_S = 1000.0


def candidate(name: str, *, size: int = 10, age_s: float = 0.0, in_use: bool = False) -> Candidate:
    return Candidate(task_id=name, size_bytes=size, used_at_s=NOW_S - age_s, in_use=in_use)


def choose(
    *tasks: Candidate, used: int = 0, total: int = 100, threshold: int = 0, needed: int = 0
) -> list[tuple[str, Reason]]:
    policy = CollectPolicy(task_ttl_s=TTL_S, threshold_bytes=threshold)
    evictions = choose_evictions(
        tasks,
        now_s=NOW_S,
        policy=policy,
        volume_total_bytes=total,
        volume_used_bytes=used,
        needed_bytes=needed,
    )
    return [(eviction.task_id, eviction.reason) for eviction in evictions]


def test_nothing_to_do() -> None:
    assert choose() == []
    assert choose(candidate("a", age_s=TTL_S), used=79) == []


def test_what_nobody_used_for_its_time_to_live_goes() -> None:
    tasks = [candidate("young", age_s=TTL_S), candidate("old", age_s=TTL_S + 1)]
    assert choose(*tasks) == [("old", Reason.EXPIRED)]


def test_at_the_high_mark_the_oldest_go_down_to_the_low_one() -> None:
    tasks = [candidate(name, age_s=age) for name, age in zip("abcd", (1, 4, 2, 3), strict=True)]
    assert choose(*tasks, used=79) == []
    assert choose(*tasks, used=80) == [("b", Reason.DISK), ("d", Reason.DISK)]
    assert len(choose(*tasks, used=100)) == 4


def test_what_a_download_needs_counts_as_used() -> None:
    """A volume below its high mark may still be too full for it."""
    tasks = [candidate("old", size=20, age_s=2), candidate("new", size=20, age_s=1)]
    assert choose(*tasks, used=70) == []
    assert choose(*tasks, used=70, needed=40) == [("old", Reason.DISK), ("new", Reason.DISK)]
    # The volume is what is too full then, whatever the threshold for our own content is.
    assert len(choose(*tasks, used=70, needed=40, threshold=1000)) == 2


def test_nothing_goes_for_what_would_not_fit_anyhow() -> None:
    tasks = [candidate("a", size=20), candidate("b", size=20)]
    assert choose(*tasks, used=70, needed=71) == []
    assert choose(*tasks, used=70, needed=70) != []


def test_what_frees_nothing_stays() -> None:
    assert choose(candidate("a", size=0, age_s=9), candidate("b"), used=80) == [("b", Reason.DISK)]
    assert choose(candidate("a", size=0, age_s=2 * TTL_S)) == [("a", Reason.EXPIRED)]


def test_what_is_in_use_never_goes() -> None:
    tasks = [
        candidate("served", age_s=10 * TTL_S, in_use=True),
        candidate("idle", age_s=1),
    ]
    assert choose(*tasks, used=100) == [("idle", Reason.DISK)]


def test_expired_ones_count_towards_the_low_mark() -> None:
    tasks = [candidate("old", size=30, age_s=2 * TTL_S), candidate("a", age_s=1)]
    assert choose(*tasks, used=85) == [("old", Reason.EXPIRED)]


def test_a_threshold_counts_only_our_own_content() -> None:
    tasks = [candidate(name, age_s=age) for name, age in zip("abcde", range(5), strict=True)]
    assert choose(*tasks, used=100, threshold=100) == []
    assert choose(*tasks, used=0, threshold=50) == [("e", Reason.DISK), ("d", Reason.DISK)]


@given(
    tasks=st.lists(
        st.tuples(st.integers(0, 50), st.floats(0, 3 * TTL_S), st.booleans()), max_size=30
    ),
    used=st.integers(0, 1000),
    threshold=st.sampled_from([0, 100, 500]),
)
def test_rules_that_always_hold(
    tasks: list[tuple[int, float, bool]], used: int, threshold: int
) -> None:
    candidates = {
        f"{number:03}": candidate(f"{number:03}", size=size, age_s=age_s, in_use=in_use)
        for number, (size, age_s, in_use) in enumerate(tasks)
    }
    policy = CollectPolicy(task_ttl_s=TTL_S, threshold_bytes=threshold)

    def decide() -> tuple[Eviction, ...]:
        return choose_evictions(
            candidates.values(),
            now_s=NOW_S,
            policy=policy,
            volume_total_bytes=1000,
            volume_used_bytes=used,
        )

    chosen = decide()
    assert chosen == decide()
    gone = [candidates[eviction.task_id] for eviction in chosen]
    assert len({task.task_id for task in gone}) == len(gone)
    assert not any(task.in_use for task in gone)
    expired = [t for t in candidates.values() if not t.in_use and NOW_S - t.used_at_s > TTL_S]
    assert {t.task_id for t in expired} <= {t.task_id for t in gone}
    ages = [task.used_at_s for task in gone]
    assert ages == sorted(ages)
    # Whoever stayed was used no earlier than the last that went, or frees nothing.
    stayed = [t for t in candidates.values() if t.size_bytes and not t.in_use and t not in gone]
    assert all(t.used_at_s >= max(ages, default=0.0) for t in stayed)
    base = threshold or 1000
    now_used = sum(t.size_bytes for t in candidates.values()) if threshold else used
    left = now_used - sum(task.size_bytes for task in gone)
    if now_used * 100 >= 80 * base and left * 100 >= 80 * base:
        assert not stayed  # nothing more could be done


def lasting(name: str, *, expires_in_s: float, stays: bool = False) -> Candidate:
    return Candidate(
        task_id=name,
        size_bytes=10,
        used_at_s=NOW_S - 10 * TTL_S,
        in_use=False,
        expires_at_s=NOW_S + expires_in_s,
        stays=stays,
    )


def test_a_persistent_task_goes_by_its_upload_not_by_its_use() -> None:
    assert choose(lasting("young", expires_in_s=1)) == []
    assert choose(lasting("old", expires_in_s=-1)) == [("old", Reason.EXPIRED)]
    fresh = candidate("fresh")
    assert choose(fresh, lasting("old", expires_in_s=-1)) == [("old", Reason.EXPIRED)]


def test_a_replica_goes_for_no_other_reason() -> None:
    tasks = [lasting("replica", expires_in_s=1, stays=True), lasting("copy", expires_in_s=1)]
    assert choose(*tasks, used=100) == [("copy", Reason.DISK)]
    # Nor is it counted as room that could be made.
    assert choose(*tasks, used=95, needed=20) == []
    old = lasting("replica", expires_in_s=-1, stays=True)
    assert choose(old) == [("replica", Reason.EXPIRED)]
