"""Checks of joint models over (y, x): the identities that tie log_joint, log_prob and the evidence
together.
"""

import torch

from conjoin.core import Event, Pair
from conjoin.joints.base import Joint
from conjoin.testing.registry import NotApplicable, check, close, expect, needs
from conjoin.testing.subjects import Flat, Subject

__all__ = ["labels_of_draws", "log_evidence", "log_joint", "predictor_is_exact", "unlabelled_rows"]


def _joint(subject: Subject, labelled: bool = True) -> tuple[Joint, Event, torch.Tensor]:
    """The joint, rows of x (some cells missing where it takes that), and candidates of y."""
    if subject.joint is None:
        raise NotApplicable("no joint")
    axis = subject.tiny.axes[0]
    needs(axis.variable.discrete or not labelled, "y is a number")
    candidates = axis.points if axis.variable.discrete else axis.data[:5]
    return subject.joint, Flat.pair(subject.event).x, candidates


@check
def log_joint(subject: Subject) -> None:
    """Each column of log_joint is log_prob of the pair with that y."""
    joint, x, candidates = _joint(subject, labelled=False)
    with torch.no_grad():
        columns = [joint.log_prob(Pair(Event(y.expand(x.rows)), x)) for y in candidates]
        close(joint.log_joint(x, candidates), torch.stack(columns, 1), 1e-7, "log_joint")
        if joint.target.discrete:
            close(joint.log_joint(x), torch.stack(columns, 1), 1e-7, "log_joint of every class")
            close(
                joint.log_joint(x, candidates.flip(0)),
                torch.stack(columns[::-1], 1),
                1e-7,
                "log_joint in another order",
            )


@check
def log_evidence(subject: Subject) -> None:
    """log p(x) is the log of the sum of log_joint over y, and log_prob with y missing."""
    joint, x, candidates = _joint(subject)
    needs(subject.can.missing != "bound", "a bound of the evidence is not the sum of bounds")
    with torch.no_grad():
        summed = joint.log_joint(x, candidates).logsumexp(1)
        close(joint.log_evidence(x), summed, 1e-7, "log_evidence")
        hidden = Pair(Event(torch.zeros(x.rows).double(), torch.zeros(x.rows, dtype=torch.bool)), x)
        close(joint.log_prob(hidden), summed, 1e-7, "log_prob with y missing")


@check
def predictor_is_exact(subject: Subject) -> None:
    """A hybrid's p(y | x) is the predictor's own word, and its evidence is the base's."""
    joint, x, candidates = _joint(subject, labelled=False)
    predictor = joint.separate_predictor
    if predictor is None:
        raise NotApplicable("no hybrid")
    with torch.no_grad():
        given = joint.log_joint(x, candidates) - joint.log_evidence(x)[:, None]
        close(given, predictor.log_prob(x, candidates.expand(x.rows, -1)), 1e-9, "log p(y | x)")
        close(joint.log_evidence(x), joint.proposer.log_evidence(x), 1e-9, "the evidence")
    expect(
        joint.status["log_prob"] is joint.proposer.status["log_prob"],
        "the hybrid's evidence has another status than its base's",
    )


@check
def unlabelled_rows(subject: Subject) -> None:
    """In the statistics an unlabelled row counts for each class by p(y | x), as labelled rows of
    those weights do."""
    joint, x, candidates = _joint(subject)
    needs(
        joint.label_prior is not None and subject.can.statistics,
        "not class-conditional, or no statistics",
    )
    x = x.take(slice(0, 10))
    classes = len(candidates)
    with torch.no_grad():
        share = joint.log_joint(x).softmax(1)
    every = x.take(torch.arange(10).repeat_interleave(classes))
    labelled = joint.statistics(Pair(Event(candidates.repeat(10)), every), weight=share.flatten())
    unlabelled = joint.statistics(Pair(joint.unknown(10), x))
    close(unlabelled["prior"], share.sum(0), 1e-9, "the class counts of unlabelled rows")
    for key in set(labelled) - {"log_prob", "x.log_prob"}:
        close(unlabelled[key], labelled[key], 1e-9, f"statistics {key} of unlabelled rows")


@check
def labels_of_draws(subject: Subject) -> None:
    """A known y stays, an unknown y is drawn with x: p(y | x) of the draws is that of log_joint."""
    joint, _, candidates = _joint(subject)
    needs(subject.can.conditionals in ("any", "approximate"), "no conditionals")
    one = Flat.pair(Event(subject.tiny.rows)).x.take(torch.zeros(1200, dtype=torch.long))
    with torch.no_grad():
        expected = joint.log_joint(one.take(slice(0, 1))).softmax(1)[0]
        drawn = joint.sample_conditional(
            Pair(joint.unknown(one.rows), one), generator=torch.Generator().manual_seed(0)
        ).y.value
    share = torch.bincount(drawn.long(), minlength=len(candidates)) / one.rows
    expect(
        bool(((share - expected).abs() < 0.06).all()),
        f"drawn labels {share.tolist()} are not {expected.tolist()}",
    )
