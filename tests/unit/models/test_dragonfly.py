"""Dragonfly's default evaluator against vectors computed by hand."""

import pytest

from models.dragonfly import (
    DragonflyRanker,
    bad_parents,
    concurrency_score,
    duration_score,
    host_type_score,
    load_score,
    peak_score,
    total_score,
)
from models.facts import CandidateBatch

GBIT = 1_000_000_000.0


def batch(**columns: list[float]) -> CandidateBatch:
    """Candidates that are idle, unknown to everybody and able to serve, but for `columns`."""
    return CandidateBatch.of_columns(columns)


def test_peak_falls_with_what_is_booked() -> None:
    scores = peak_score(
        batch(
            max_tx_bits_per_s=[GBIT, GBIT, GBIT, GBIT],
            booked_tx_bits_per_s=[0, 0.25 * GBIT, GBIT, 3 * GBIT],
        )
    )
    assert scores.tolist() == [1.0, 0.75, 0.0, 0.0]


def test_duration_falls_with_booked_content() -> None:
    # 3.75 GB at 1 Gbit/s take 30 s, half of a minute.
    scores = duration_score(
        batch(
            max_tx_bits_per_s=[GBIT, GBIT, GBIT],
            upload_content_length=[0, 3.75e9, 9e9],
        )
    )
    assert scores.tolist() == [1.0, 0.5, 0.0]


def test_concurrency_wants_a_piece_in_flight_per_16_mib_per_s() -> None:
    # 8 x 16 MiB/s uplink wants 8 pieces in flight.
    eight = 8 * 16 * 1024 * 1024 * 8.0
    one = eight / 8
    scores = concurrency_score(
        batch(
            max_tx_bits_per_s=[eight, eight, eight, eight, one],
            upload_piece_count=[0, 8, 16, 32, 0],
        )
    )
    assert scores.tolist() == [1.0, 1.0, 0.5, 0.25, 0.0]


def test_load_is_nothing_when_the_bandwidth_is_unknown() -> None:
    assert load_score(batch(max_tx_bits_per_s=[0.0])).tolist() == [0.0]


def test_load_weighs_its_parts() -> None:
    # Peak 0.75, duration 0.5, concurrency 0.5 at an uplink of 1 Gbit/s, which wants 7.4506 pieces.
    wanted = GBIT / (16 * 1024 * 1024) / 8
    score = load_score(
        batch(
            max_tx_bits_per_s=[GBIT],
            booked_tx_bits_per_s=[0.25 * GBIT],
            upload_content_length=[3.75e9],
            upload_piece_count=[2 * wanted],
        )
    )
    assert score.tolist() == pytest.approx([0.5 * 0.75 + 0.3 * 0.5 + 0.2 * 0.5])


def test_host_type_likes_a_seed_only_in_its_first_download() -> None:
    scores = host_type_score(batch(is_seed=[1, 1, 0, 0], is_first_download=[1, 0, 1, 0]))
    assert scores.tolist() == [1.0, 0.0, 0.5, 0.5]


def test_total_of_an_idle_neighbour_in_the_same_data_centre() -> None:
    score = total_score(batch(max_tx_bits_per_s=[10 * GBIT], same_idc=[1], location_affinity=[0.4]))
    assert score.tolist() == pytest.approx([0.6 + 0.2 + 0.04 + 0.05])


def test_total_of_an_unknown_host() -> None:
    assert total_score(batch(max_tx_bits_per_s=[0.0])).tolist() == pytest.approx([0.05])


def test_bad_by_state() -> None:
    assert bad_parents(batch(can_serve=[1, 0])).tolist() == [False, True]


def test_bad_by_ratio_while_the_window_is_not_full() -> None:
    bad = bad_parents(
        batch(
            cost_count=[1, 2, 2, 1999],
            cost_last_s=[100, 2.0, 2.1, 2.1],
            cost_mean_s=[0, 0.1, 0.1, 0.1],
            cost_std_s=[0, 0, 0, 5.0],
        )
    )
    assert bad.tolist() == [False, False, True, True]


def test_bad_by_three_sigmas_once_the_window_is_full() -> None:
    bad = bad_parents(
        batch(
            cost_count=[2000, 2000, 2000],
            cost_last_s=[1.3, 1.4, 25.0],
            cost_mean_s=[1.0, 1.0, 1.0],
            cost_std_s=[0.1, 0.1, 10.0],
        )
    )
    assert bad.tolist() == [False, True, False]


def test_ranking_scores_and_marks_every_row() -> None:
    ranking = DragonflyRanker().rank(batch(same_idc=[1, 0], can_serve=[0, 1]), 1)
    assert ranking.scores.tolist() == pytest.approx([0.25, 0.05])
    assert ranking.bad.tolist() == [True, False]
    assert ranking.ranked_by == "dragonfly"
