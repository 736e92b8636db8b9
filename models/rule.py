"""The formula of our rule: an estimate of the rate the child will get, in logarithms.

    score = ln(expected rate of the host / rate of the swarm)
            + ln(share of it that one more child gets)
            - 0.05 ln(children / upload slots)       as far as there are more children than slots
            + 2 ln(1 - failure rate)                 what of that is of use
            + 0.3 same data centre + 0.2 location    what the way between them is worth
            + 0.5 share of the content it holds      what it can give at once
            - 0.05 for each hop from the source      what comes late there comes later here

*Expected rate.* What the host has served at, drawn towards what is thought of a stranger while it
was seldom seen. A stranger is thought to be as fast as pieces between the two data centres are, and
half as far above or below it as its announced uplink is above or below the other candidates' (a
claim is no measurement: a slow host makes it too). A pair of data centres, in turn, is drawn
towards the swarm while it was seldom seen. Of a host that is known well the pair still counts half:
its own rate is over all its children, wherever they are.

*Share.* By this scheduler's own count one more child gets 1 / (children + 1). A host that reports
what leaves its uplink says it better: at that moment so much was to spare, and only the children
it was given since then can have taken of that (those from before are in the report already, and are
not counted twice). A new child gets its part of what was to spare, or an equal part of all when
that is more, for children make room. The report loses half its weight every 20 s. If the host had
none of our children when it reported, what it sent then went to others, and is not shared.

The latest ten seconds of serving are left out on purpose: a host whose children have just left
serves slower too, and no single term can tell the two apart. A host that truly slows down is for
the scheduler's judgement of bad nodes.

Load, slots and depth are costs without steps: whoever is full is still better than who is worse.
Nothing here learns or remembers. Every score is finite, whatever is unknown.

Here it is over columns, for those who look at many candidates at once; `rule_ranker` has it as a
decision needs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.facts import FACTS, BoolArray, CandidateBatch, FloatArray, column_of
from models.prior import PRIOR_FAILURES, PRIOR_PAIR_PIECES, PRIOR_PIECES, PRIOR_SUCCESSES

RATIO_LIMIT = 7.0
"""Logarithms of ratios are clipped to this, as the features are: a thousand times."""
LEAST = 1e-300
"""In place of 0 where a logarithm is taken."""
CLAIM_TRUST = 0.5
"""How much of an announced uplink's ratio to the others' counts for a stranger. Hosts of
one kind with one announced uplink were measured to differ up to ten times in what they give
(Bobtail, on EC2), so a claim says about half of what there is to know."""
PAIR_OF_KNOWN = 0.5
"""How much of the pair's advantage counts for a host that is known as well as can be."""
REPORT_HALF_LIFE_S = 20.0
"""Of the trust in a report: with reports up to 5 s old the own count since then keeps herds away
(simulated p99 1.3 s against 30 s without it); half a minute later most children are others."""
SPARE_MIN = 0.1
"""Of a full uplink a new child is thought to get at least a tenth of its equal part (dfdaemon's own
choice of a parent uses the same least weight)."""
SLOT_WEIGHT = 0.05
"""Beyond its upload slots a host makes its children queue, which costs little: they share its rate
either way, and that is counted. Simulated (60 uneven peers, our client, five worlds) 0.5 made the
p99 8 % longer than 0 did: it drives children from fast hosts with many to slow ones with few."""
FAILURE_WEIGHT = 2.0
"""A failed piece costs its own time and that of the next try: it counts twice."""
LOG_USEFUL_MIN = -4.6
"""ln 0.01: a host of which everything fails is no worse than that."""
SAME_IDC_WEIGHT = 0.3
"""Within a data centre a host may be a third slower (e^-0.3 = 0.74) and still be preferred: the
way there is short and costs nobody an uplink. More would crowd the children of one data centre on
its first holder."""
LOCATION_WEIGHT = 0.2
"""The same for a wholly equal location; both together are worth 1.65 times the rate."""
FINISHED_WEIGHT = 0.5
"""A whole copy against an empty one is worth 1.65 times the rate: an empty one gives each piece
only when it has come itself. More would send everybody to the seed, whose uplink is scarce."""
DEPTH_WEIGHT = 0.05
"""A hop later is worth 5 % of the rate: half a round trip and a piece of delay, which a long
download hardly notices."""
TEMPERATURE = 0.0
"""See `Ranking.temperature`."""

_UPLINK, _REPORTED = column_of("max_tx_bits_per_s"), column_of("reported_tx_bits_per_s")
_REPORT_AGE, _REPORTED_CHILDREN = column_of("report_age_s"), column_of("reported_child_count")
_CHILDREN, _SLOTS = column_of("child_count"), column_of("upload_slots")
_SERVED, _SWARM = column_of("served_rate_bytes_per_s"), column_of("swarm_rate_bytes_per_s")
_PIECES, _FAILURES = column_of("served_piece_count"), column_of("served_failure_count")
_PAIR, _PAIRS = column_of("pair_rate_bytes_per_s"), column_of("pairs_rate_bytes_per_s")
_PAIR_PIECES = column_of("pair_piece_count")
_SAME_IDC, _LOCATION = column_of("same_idc"), column_of("location_affinity")
_FINISHED, _IS_FINISHED = column_of("finished_piece_count"), column_of("is_finished")
_TOTAL, _DEPTH = column_of("total_piece_count"), column_of("depth")


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """The terms of the formula, each of shape (n,), all finite."""

    expected_rate: FloatArray
    """Log rate of the host over the swarm's: its history as far as there is one, else a guess."""
    pair_rate: FloatArray
    """Log rate of pieces between the two data centres over that of all, drawn towards 0."""
    share: FloatArray
    """Logarithm of the part of the host's rate that one more child gets."""
    overload: FloatArray
    """ln(children, with one more, over upload slots), at least 0; 0 while these are unknown."""
    score: FloatArray
    """All of it together."""


def rule_score(batch: CandidateBatch) -> FloatArray:
    """The logarithm of the child's expected rate over the swarm's, shape (n,), finite."""
    return terms(batch).score


def unable(batch: CandidateBatch) -> BoolArray:
    """Who is in no state to serve: all that a ranker of ours calls bad.

    Who served badly is judged by the scheduler, over many decisions.
    """
    return ~batch.is_true("can_serve")


def expected_rate(batch: CandidateBatch) -> FloatArray:
    """The term of that name."""
    return terms(batch).expected_rate


def terms(batch: CandidateBatch) -> Terms:
    """All terms of the formula, from what the facts claim (`CandidateBatch.claims`).

    What is unknown is 0 there, and its logarithm whatever the clipping leaves of it; so each stands
    beside a weight that is 0 then. Logarithms are taken all in one step: with some 25 candidates a
    step costs the same whatever it does.
    """
    told = batch.claims()
    places = told[_CHILDREN] + _ONE
    logs = _logs(told, places)
    kept = np.empty((len(_WEIGHTS), len(places)))
    expected, share, useful, overload, finished = kept
    pair = _expect(told, logs, expected)
    np.negative(logs[5], share)
    if np.count_nonzero(told[_REPORTED]):
        share += _trust(told) * (_log_reported_part(told, places) - share)
    np.fmax(logs[7], _LOG_USEFUL_MIN, useful)
    np.fmax(logs[5] - logs[6], _ZERO, overload)
    np.multiply(np.fmin(overload, _RATIO_MAX), told[_SLOTS] > _ZERO, overload)
    np.divide(told[_FINISHED], np.fmax(told[_TOTAL], _ONE), finished)
    finished *= told[_TOTAL] > _ZERO
    np.fmin(np.fmax(finished, told[_IS_FINISHED], finished), _ONE, finished)
    score = LINEAR @ told
    score += _WEIGHTS @ kept
    return Terms(expected, pair, share, overload, score)


def _logs(told: FloatArray, places: FloatArray) -> FloatArray:
    """Logarithms: served, pair, swarm, pairs, uplink, places, slots, and what does not fail."""
    logs = np.empty((len(_LOGS) + 1, len(places)))
    np.take(told, _LOGS, axis=0, out=logs[:-1])
    logs[5] = places
    good = told[_PIECES] + _PRIOR_GOOD
    np.divide(good, good + (told[_FAILURES] + _PRIOR_BAD), logs[7])
    np.fmax(logs, _LEAST, logs)
    return np.log(logs, logs)


def _expect(told: FloatArray, logs: FloatArray, expected: FloatArray) -> FloatArray:
    """Put the host's expected log rate into `expected`; return the pair's part in it."""
    ratios = np.fmax(np.fmin(logs[0:2] - logs[2:4], _RATIO_MAX), _RATIO_MIN)
    pieces, claim = told[_PIECES], _claim(told[_UPLINK], logs[4])
    weight = pieces / (pieces + _PRIOR_PIECES)
    weight *= told[_SERVED] > _ZERO
    weight *= told[_SWARM] > _ZERO
    np.add(claim, weight * (ratios[0] - claim), expected)
    if not np.count_nonzero(told[_PAIR]):
        return np.zeros(len(pieces))
    pair: FloatArray = told[_PAIR_PIECES] / (told[_PAIR_PIECES] + _PRIOR_PAIR)
    pair *= told[_PAIR] > _ZERO
    pair *= told[_PAIRS] > _ZERO
    pair *= ratios[1]
    expected += (_ONE - _PAIR_KNOWN * weight) * pair
    return pair


def _claim(uplink: FloatArray, log_uplink: FloatArray) -> FloatArray:
    """What is thought of a stranger: 0 is the swarm's rate, and that of who announces nothing."""
    known = uplink >= _ONE
    known_count = int(np.count_nonzero(known))
    if not known_count:
        return np.zeros(len(uplink))
    told = log_uplink if known_count == len(uplink) else log_uplink * known
    ratio = told - float(np.add.reduce(told)) / known_count
    claim: FloatArray = _CLAIM_TRUST * np.fmax(np.fmin(ratio, _RATIO_MAX), _RATIO_MIN)
    return claim if known_count == len(uplink) else claim * known


def _log_reported_part(told: FloatArray, places: FloatArray) -> FloatArray:
    """Logarithm of what a new child gets of a host, by the host's report."""
    before = told[_REPORTED_CHILDREN]
    rest = _ONE - np.fmin(told[_REPORTED] / np.fmax(told[_UPLINK], _ONE), _ONE)
    since = np.fmax(places - before, _ONE)  # the new child and those since the report
    # If it had none of our children, nobody makes room for a new one.
    equal = np.fmax(np.fmax(rest, _SPARE_MIN), before > _ZERO)
    part: FloatArray = np.log(np.fmax(rest / since, equal / places))
    return part


def _trust(told: FloatArray) -> FloatArray:
    """What a report still counts, 0..1; 0 if there is none, or nothing to compare it with."""
    trust: FloatArray = np.exp2(told[_REPORT_AGE] * _REPORT_FADE)
    trust *= told[_REPORTED] > _ZERO
    trust *= told[_UPLINK] > _ZERO
    return trust


# --- the numbers above as numpy takes them at once: a Python number makes a step half as dear again

_ZERO, _ONE = np.array(0.0), np.array(1.0)
_LEAST, _RATIO_MAX, _RATIO_MIN = np.array(LEAST), np.array(RATIO_LIMIT), np.array(-RATIO_LIMIT)
_PRIOR_PIECES, _PRIOR_PAIR = np.array(PRIOR_PIECES), np.array(PRIOR_PAIR_PIECES)
_PRIOR_GOOD, _PRIOR_BAD = np.array(PRIOR_SUCCESSES), np.array(PRIOR_FAILURES)
_CLAIM_TRUST, _PAIR_KNOWN = np.array(CLAIM_TRUST), np.array(PAIR_OF_KNOWN)
_LOG_USEFUL_MIN, _SPARE_MIN = np.array(LOG_USEFUL_MIN), np.array(SPARE_MIN)
_REPORT_FADE = np.array(-1.0 / REPORT_HALF_LIFE_S)
_WEIGHTS = np.array([1.0, 1.0, FAILURE_WEIGHT, -SLOT_WEIGHT, FINISHED_WEIGHT])
"""Of the rows of `kept` in `terms`."""
_LOGS = np.array([_SERVED, _PAIR, _SWARM, _PAIRS, _UPLINK, _CHILDREN, _SLOTS])
LINEAR: FloatArray = np.zeros(len(FACTS))
"""What is simply added up, by fact."""
LINEAR[[_SAME_IDC, _LOCATION, _DEPTH]] = SAME_IDC_WEIGHT, LOCATION_WEIGHT, -DEPTH_WEIGHT
