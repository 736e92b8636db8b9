"""The defaults that others rely on."""

from dataclasses import FrozenInstanceError

import pytest

from scheduler.core.limits import Limits


def test_dragonflys_defaults() -> None:
    limits = Limits()
    assert limits.back_to_source_limit == 200
    assert limits.cost_window == 2000
    assert limits.piece_timeout_s == 30 * 60
    assert limits.peer_ttl_s == 24 * 3600
    assert limits.host_ttl_s == 3600
    assert limits.peer_count_limit_for_task == 300


def test_limits_do_not_change_while_a_scheduler_runs() -> None:
    limits = Limits()
    with pytest.raises(FrozenInstanceError):
        limits.cost_window = 1  # type: ignore[misc]  # that is the point
