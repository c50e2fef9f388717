"""Rows, splits, learners and the loop: order, weights, resumption, interruption, and a way back
from bad steps.
"""

import contextlib
import dataclasses
import itertools
import os
import signal
import subprocess
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from conjoin.core import Capabilities, Config, Density, Event, Pair, Recipe, Space, Variable, stream
from conjoin.families import resolve
from conjoin.training import loop
from conjoin.training.data import canonical, row_hashes, split_rows
from conjoin.training.feed import Held
from conjoin.training.learners import Batch, ExpectationMaximisation, Gradient, learner_for
from conjoin.training.loop import Diverged, Plan, train
from conjoin.training.progress import Progress
from conjoin.util import files
from conjoin.util.energy import Energy

ENERGY = Energy(0.0, 0.0, 0.0, "by hand", 0.0, 0.0)
REAL = Space((2,), (Variable("a", "real"), Variable("b", "real")))


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


def rows(n=200, seed=0):
    centre = (torch.arange(n) % 2)[:, None] * 3.0
    return Event(centre + torch.randn(n, 2, generator=stream(seed), dtype=torch.float64))


def ones(n=200):
    return torch.ones(n, dtype=torch.float64)


def mixture(seed=0):
    config = resolve("mixture").set_params(components=3)
    return config.density.build(REAL, config, rows(), stream(seed))


class Noisy(Density):
    """A Gaussian trained by the gradient, with noise of the loss's own generator."""

    config_class = Config

    def __init__(self, space=REAL):
        super().__init__(space, None)
        self.mean = nn.Parameter(torch.full((2,), 5.0, dtype=torch.float64))
        self.fail_at = None
        self.calls = 0
        self.error = None

    @property
    def capabilities(self):
        return Capabilities()

    def _log_prob(self, event, context, generator):
        return -0.5 * ((event.value - self.mean) ** 2).sum(1)

    def _sample(self, n, context, generator):
        return Event(self.mean + torch.randn(n, 2, generator=generator, dtype=torch.float64))

    def _loss(self, event, context, weight, generator):
        self.calls += 1
        if self.calls == self.fail_at and self.error is not None:
            raise self.error
        loss = -(weight * self._log_prob(event, context, generator)).sum() / weight.sum()
        loss = (
            loss + 0.1 * torch.randn((), generator=generator, dtype=torch.float64) * self.mean.sum()
        )
        return loss * torch.nan if self.calls == self.fail_at else loss


def fit(density, plan, choose=None, data=None):
    data = rows() if data is None else data
    return train(density, data, ones(data.rows), choose, plan, Progress())


def weights_of(density):
    return {key: value.clone() for key, value in density.state_dict().items()}


def same(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


# --------------------------------------------------------------------------------------------- rows


def table():
    y = Event(doubles(0, 1, 0, 0, 1, 0), torch.tensor([True, True, True, False, True, True]))
    x = Event(
        doubles([1, 2], [3, 4], [1, 2], [1, 2], [9, 9], [1, 2]),
        torch.tensor([[True, True]] * 5 + [[True, False]]),
    )
    return Pair(y, Event(torch.where(x.mask, x.value, 0.0), x.mask))


def test_canonical_merges_equal_rows_and_adds_their_weights():
    pair, weight = canonical(table(), doubles(1, 2, 3, 4, 0, 5))
    # rows 0 and 2 are one, row 4 has weight 0; a missing label or cell sets a row apart
    assert pair.rows == 4
    assert float(weight.sum()) == 15
    found = {
        (*pair.x.value[i].tolist(), bool(pair.y.mask[i]), bool(pair.x.mask[i, 1])): float(weight[i])
        for i in range(4)
    }
    assert found == {
        (1, 2, True, True): 4,
        (3, 4, True, True): 2,
        (1, 2, False, True): 4,
        (1, 0, True, False): 5,
    }


@given(st.permutations(range(6)))
def test_canonical_does_not_depend_on_the_order(order):
    weight = doubles(1, 2, 3, 4, 0, 5)
    first = canonical(table(), weight)
    again = canonical(table().take(torch.tensor(order)), weight[list(order)])
    assert torch.equal(first[1], again[1])
    for part, other in zip(
        (*first[0].y[:2], *first[0].x[:2]), (*again[0].y[:2], *again[0].x[:2]), strict=True
    ):
        assert torch.equal(part, other)


def test_canonical_weight_two_is_the_row_twice():
    twice = table().take(torch.tensor([0, 0, 1]))
    first = canonical(twice, doubles(1, 1, 1))
    again = canonical(table().take(torch.tensor([0, 1])), doubles(2, 1))
    assert torch.equal(first[1], again[1])
    assert torch.equal(first[0].x.value, again[0].x.value)


# ------------------------------------------------------------------------------------------- splits


def test_hashes_follow_content_and_mask_or_groups():
    x = pd.DataFrame({"a": [1.0, 2.0, 1.0, 3.0, 4.0, None], "b": ["u", "u", "u", 5, "v", "u"]})
    hashes = row_hashes(x)
    assert hashes[0] == hashes[2]
    assert len(set(hashes)) == 5
    grouped = row_hashes(x, groups=["u", "v", "u", "w", "v", "u"])
    assert grouped[0] == grouped[5]
    assert len(set(grouped)) == 3


@given(st.integers(0, 1000), st.floats(0.05, 0.3), st.floats(0.05, 0.3))
def test_parts_are_disjoint_complete_and_of_their_size(seed, choose, calibrate):
    hashes = row_hashes(pd.DataFrame({"a": np.arange(400) % 300, "b": "same"}))
    split = split_rows(hashes, seed, choose, calibrate)
    every = np.sort(np.concatenate(split))
    assert np.array_equal(every, np.arange(400))
    assert abs(len(split.choose) - 400 * choose) <= 3
    assert abs(len(split.calibrate) - 400 * calibrate) <= 3
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not set(hashes[split[a]]) & set(hashes[split[b]])


def test_a_split_depends_on_content_and_seed_not_on_order():
    x = pd.DataFrame({"a": np.arange(100.0)})
    order = np.random.default_rng(2).permutation(100)
    first, again = (split_rows(row_hashes(part), 1, 0.2, 0.2) for part in (x, x.iloc[order]))
    assert set(first.choose) == set(order[again.choose])
    assert set(first.choose) != set(split_rows(row_hashes(x), 2, 0.2, 0.2).choose)


def test_a_missing_cell_is_no_zero():
    assert len(set(row_hashes(pd.DataFrame({"a": [0.0, None]})))) == 2


def test_where_most_rows_repeat_each_counts_for_itself():
    """Else a handful of patterns would be held out whole, unlike the rows to come."""
    split = split_rows(row_hashes(pd.DataFrame({"a": np.arange(1000) % 4})), 0, 0.2, 0.2)
    assert abs(len(split.calibrate) - 200) <= 1
    assert set(np.arange(1000)[split.calibrate] % 4) == {0, 1, 2, 3}


def test_a_part_never_takes_more_than_its_share():
    split = split_rows(
        row_hashes(pd.DataFrame({"a": range(300)}), groups=["one"] * 300), 0, 0.2, 0.2
    )
    assert [len(part) for part in split] == [300, 0, 0]


def test_nothing_is_held_out_unless_asked():
    split = split_rows(np.arange(50, dtype=np.uint64), 0, 0.0, 0.0)
    assert (len(split.fit), len(split.choose), len(split.calibrate)) == (50, 0, 0)


def test_latest_rows_calibrate_and_their_groups_stay_out():
    hashes = np.arange(100, dtype=np.uint64)
    when = np.random.default_rng(0).permutation(100)
    split = split_rows(hashes, 0, 0.1, 0.2, latest=when)
    assert set(when[split.calibrate]) == set(range(80, 100))
    grouped = split_rows(hashes // 3, 0, 0.1, 0.2, latest=when)
    assert not set(hashes[grouped.calibrate] // 3) & set(
        hashes[np.concatenate([grouped.fit, grouped.choose])] // 3
    )


# ----------------------------------------------------------------------------------------- learners


def test_each_density_has_its_learner():
    assert isinstance(learner_for(mixture()), ExpectationMaximisation)
    assert isinstance(learner_for(Noisy()), Gradient)


def test_em_on_the_whole_data_is_plain_em():
    learned = mixture()
    plain = mixture()
    learner = ExpectationMaximisation(learned)
    for _ in range(3):
        learner.step(Batch(rows(), ones(), 200.0), stream(0))
        plain.maximise(
            {key: value for key, value in plain.statistics(rows()).items() if key != "log_prob"}
        )
    assert same(weights_of(learned), weights_of(plain))


def test_mini_batch_em_follows_a_running_mean_that_forgets_less_and_less():
    density = mixture()
    data = rows()
    learner = ExpectationMaximisation(density)
    running = None
    for step in range(4):
        part = data.take(slice(50 * step, 50 * step + 50))
        fresh = {
            key: 4 * value for key, value in density.statistics(part).items() if key != "log_prob"
        }
        rate = 1.0 if running is None else 0.25**0.3 * min(1.0, (1 - step / 4) / 0.8)
        running = (
            fresh
            if running is None
            else {key: (1 - rate) * running[key] + rate * fresh[key] for key in fresh}
        )
        learner.step(Batch(part, ones(50), 200.0), stream(0), step / 4)
        assert all(torch.allclose(learner.running[key], running[key]) for key in running)


def test_em_reports_the_mean_before_its_step():
    density = mixture()
    with torch.no_grad():
        before = -float(density.log_prob(rows()).mean())
    assert ExpectationMaximisation(density).step(
        Batch(rows(), 3 * ones(), 600.0), stream(0)
    ) == pytest.approx(before)


def test_the_gradient_moves_towards_the_data():
    density = Noisy()
    fit(density, Plan(epochs=300, patience=300))
    assert abs(float(density.mean.detach().mean()) - 1.5) < 1.5


# ----------------------------------------------------------------------------------------- the loop


def batched(**changes):
    return Plan(**({"batch": 64, "patience": 100} | changes))


def broken_off(monkeypatch, steps, *arguments, by=KeyboardInterrupt):
    """A fit that is interrupted after so many steps."""
    step = loop._Run.step

    def until(self, bar):
        if self.trained.steps == steps:
            raise by
        step(self, bar)

    with monkeypatch.context() as patch, contextlib.suppress(by):
        patch.setattr(loop._Run, "step", until)
        fit(*arguments)


@pytest.mark.parametrize("by", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("make", [mixture, Noisy])
def test_a_resumed_fit_is_the_uninterrupted_one_bit_for_bit(make, by, tmp_path, monkeypatch):
    """Ctrl-C goes back to the last whole round, what ends the program within one does not."""
    whole = make()
    first = make()
    second = make()
    uninterrupted = fit(whole, batched(epochs=10))
    broken_off(monkeypatch, 16, first, batched(epochs=10, checkpoint=tmp_path, every=0), by=by)
    report = fit(second, batched(epochs=10, checkpoint=tmp_path, resume=True))
    assert same(weights_of(whole), weights_of(second))
    assert report.epochs == 10
    assert [epoch for epoch, *_ in report.history] == list(range(1, 11))
    assert report.history == uninterrupted.history


def test_the_best_weights_survive_a_resumption(tmp_path):
    """Validation rows that every epoch makes worse: the weights of the first one are kept, before
    and after the checkpoint."""
    choose = Event(torch.full((20, 2), 5.0, dtype=torch.float64))
    whole = Noisy()
    first = Noisy()
    second = Noisy()
    fit(whole, batched(epochs=10), choose)
    fit(first, batched(epochs=5, checkpoint=tmp_path, every=0), choose)
    report = fit(second, batched(epochs=10, checkpoint=tmp_path, resume=True), choose)
    assert report.best_epoch == 1
    assert same(weights_of(whole), weights_of(second))


def test_every_step_has_noise_of_its_own(monkeypatch):
    noise = []
    monkeypatch.setattr(
        Gradient,
        "step",
        lambda self, batch, generator, progress: (
            noise.append(float(torch.rand((), generator=generator))) or 0.0
        ),
    )
    fit(Noisy(), batched(epochs=3))
    fit(Noisy(), batched(epochs=3, seed=1))
    assert len(set(noise)) == len(noise) == 18


def test_nothing_to_resume_starts_afresh(tmp_path):
    whole = mixture()
    other = mixture()
    fit(whole, batched(epochs=2))
    fit(other, batched(epochs=2, checkpoint=tmp_path / "none", resume=True))
    assert same(weights_of(whole), weights_of(other))


def test_the_same_seed_gives_the_same_fit_and_another_seed_another():
    first = Noisy()
    again = Noisy()
    other = Noisy()
    for density, seed in ((first, 0), (again, 0), (other, 1)):
        fit(density, batched(epochs=3, seed=seed))
    assert same(weights_of(first), weights_of(again))
    assert not same(weights_of(first), weights_of(other))


def test_the_best_weights_on_choose_rows_are_kept():
    """Validation rows lie where the start is: every step makes them worse, so the first epoch is
    kept and patience ends the fit."""
    density = Noisy()
    report = fit(
        density,
        batched(epochs=50, patience=4),
        choose=Event(torch.full((20, 2), 5.0, dtype=torch.float64)),
    )
    assert report.stopped == "no better for a while"
    assert report.best_epoch == 1
    assert report.epochs == 5
    with torch.no_grad():
        final = float(
            density.loss(
                Event(torch.full((20, 2), 5.0, dtype=torch.float64)), generator=stream(0, "choose")
            )
        )
    assert final == pytest.approx(report.best)


@pytest.mark.parametrize("stopped_early", [False, True])
def test_mini_batch_em_ends_with_a_step_of_all_rows(stopped_early):
    """After an M step on all rows a mixture has their mean; on the way it has that of batches."""
    data = rows()
    density = mixture()
    held = rows(40, seed=9)
    plan = Plan(batch=20, epochs=8, patience=1 if stopped_early else 8, tolerance=1.0)
    trained = train(density, data, ones(), held, plan, Progress(verbose=False))
    drawn = density.sample(100_000, generator=stream(1)).value
    assert (drawn.mean(0) - data.value.mean(0)).abs().max() < 0.03
    with torch.no_grad():
        assert trained.best == pytest.approx(float(density.loss(held)))


def test_an_interrupted_fit_keeps_the_best_weights():
    density = Noisy()
    reference = Noisy()
    density.fail_at = 9
    density.error = KeyboardInterrupt()
    report = fit(density, batched(epochs=20))
    assert "interrupted" in report.stopped
    assert report.epochs == 2
    fit(reference, batched(epochs=2))
    assert same(weights_of(density), weights_of(reference))


def test_a_loss_that_is_not_finite_goes_back_to_the_last_good_weights_with_a_smaller_step(
    monkeypatch,
):
    density = Noisy()
    factors = []
    density.fail_at = 8
    step = Gradient.step
    monkeypatch.setattr(
        Gradient, "step", lambda self, *rest: factors.append(self.factor) or step(self, *rest)
    )
    report = fit(density, batched(epochs=20))
    assert (report.setbacks, report.epochs, report.stopped) == (1, 20, "all epochs done")
    assert factors == [1.0] * 8 + [0.3] * 54  # the third round of three steps is begun again
    assert bool(torch.isfinite(density.mean).all())


def test_a_loss_that_never_gets_finite_is_given_up_with_the_last_good_weights(monkeypatch):
    density = Noisy()
    reference = Noisy()
    monkeypatch.setattr(
        density,
        "_loss",
        lambda *rest: (
            torch.nan * density.mean.sum() if density.calls > 5 else Noisy._loss(density, *rest)
        ),
    )
    with pytest.raises(Diverged, match=r"not finite or exploded 4 times.*lower the rate"):
        fit(density, batched(epochs=20))
    fit(reference, batched(epochs=2))
    assert same(weights_of(density), weights_of(reference))


def test_an_exploding_loss_counts_as_one_that_is_not_finite(monkeypatch):
    density = Noisy()
    monkeypatch.setattr(
        density,
        "_loss",
        lambda *rest: Noisy._loss(density, *rest) + (1e9 if density.calls == 7 else 0.0),
    )
    assert fit(density, batched(epochs=5)).setbacks == 1


def test_statistics_that_are_not_finite_leave_the_parameters_alone(monkeypatch):
    density = mixture()
    before = weights_of(density)
    found = {key: value * torch.nan for key, value in density.statistics(rows()).items()}
    monkeypatch.setattr(type(density), "_statistics", lambda *arguments: found)
    report = fit(density, Plan(epochs=3))
    assert "not finite" in report.stopped
    assert same(before, weights_of(density))


def test_max_time_stops_the_fit(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    report = fit(mixture(), Plan(epochs=1000, patience=1000, max_time=20))
    assert report.stopped == "max_time of 20 s reached"
    assert 5 <= report.epochs < 20


def test_max_time_on_the_real_clock():
    started = time.monotonic()
    fit(Noisy(), Plan(epochs=10**6, patience=10**6, max_time=0.2))
    assert time.monotonic() - started < 5


def batches_of(feed, epoch, parts):
    """The batches of one epoch, step by step."""
    return [feed.batch(step, parts) for step in range(epoch * parts, (epoch + 1) * parts)]


def test_batches_cover_every_row_once_with_its_weight():
    data = rows(203)
    weight = torch.arange(203).double() + 1
    feed = Held(data, weight, 0)
    assert feed.parts(50) == 4
    batches = batches_of(feed, 0, 4)
    assert max(b.rows.rows for b in batches) - min(b.rows.rows for b in batches) <= 4
    seen = torch.cat([torch.cat([b.rows.value, b.weight[:, None]], 1) for b in batches])
    assert torch.equal(seen[seen[:, 2].argsort()], torch.cat([data.value, weight[:, None]], 1))
    assert all(b.total == float(weight.sum()) for b in batches)
    assert not torch.equal(batches[0].rows.value, batches_of(feed, 1, 4)[0].rows.value)
    assert torch.equal(batches[0].rows.value, batches_of(feed, 0, 4)[0].rows.value)


def test_the_history_is_the_weighted_mean_over_batches():
    density = mixture()
    data = rows(203)
    weight = torch.arange(203).double() + 1
    report = train(density, data, weight, None, Plan(epochs=1, batch=1000), Progress())
    with torch.no_grad():
        start = -(weight * mixture().log_prob(data)).sum() / weight.sum()
    assert report.history[0][1] == pytest.approx(float(start))


def test_a_heavy_batch_counts_more_in_the_history(monkeypatch):
    masses = []
    monkeypatch.setattr(
        Gradient,
        "step",
        lambda self, batch, generator, progress: masses.append(batch.mass) or batch.mass,
    )
    weight = torch.arange(203).double() ** 3 + 1
    report = train(Noisy(), rows(203), weight, None, batched(epochs=1), Progress())
    mass = np.array([float(each) for each in masses])
    assert len(mass) > 2 and mass.max() > 1.1 * mass.min()
    assert report.history[0][1] == pytest.approx(float((mass**2).sum() / mass.sum()), rel=1e-12)


def test_progress_is_shown_on_standard_error(capsys):
    train(mixture(), rows(), ones(), None, Plan(epochs=2), Progress(verbose=True), "fitting")
    shown = capsys.readouterr()
    assert "fitting" in shown.err
    assert shown.out == ""


# ------------------------------------------------------------------------- what may happen to a fit


def killed(density, plan, after):
    """Run a fit in a process of its own and kill it (SIGKILL) after so many seconds; whether it was
    still running."""
    child = os.fork()
    if not child:
        fit(density, plan)
        os._exit(0)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("family", ["mixture", "autoregressive"])
def test_a_fit_killed_twenty_times_ends_with_the_same_bits(family, tmp_path):
    """Each run goes on from the last checkpoint; where it was killed, in the middle of a write too,
    must not show."""
    whole = small(family)
    broken = small(family)
    plan = Plan(steps=240, epochs=240, patience=10**6, batch=50)
    fit(whole, plan)
    moments = np.random.default_rng(0)
    kills = 0
    again = dataclasses.replace(plan, checkpoint=tmp_path, resume=True, every=0)
    for _ in range(20):
        kills += killed(broken, again, 0.02 + 0.25 * moments.random())
    report = fit(broken, again)
    assert kills >= 10
    assert report.steps == (240 if family == "autoregressive" else 240 * 4)
    assert same(weights_of(whole), weights_of(broken))


def small(family):
    config = resolve(family)
    return config.density.build(REAL, config, rows(), stream(0))


def test_a_full_disk_keeps_the_last_checkpoint_and_the_fit_goes_on(tmp_path, capsys):
    """On a real file system of 40 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "none", folder], capture_output=True
    ).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        fit(Noisy(), batched(epochs=2, checkpoint=folder, every=0))
        before = (folder / "checkpoint.safetensors").read_bytes()
        (folder / "filler").write_bytes(bytes(folder.stat().st_blksize and 36 * 1024 - len(before)))
        density = Noisy()
        report = fit(density, batched(epochs=4, checkpoint=folder, every=0))
        assert (folder / "checkpoint.safetensors").read_bytes() == before
        assert report.epochs == 4
        assert "the last one stays" in report.notes[0]
        assert "No space left" in capsys.readouterr().err
        (folder / "filler").unlink()
        resumed = Noisy()
        fit(resumed, batched(epochs=4, checkpoint=folder, every=0, resume=True))
        assert same(weights_of(density), weights_of(resumed))
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_write_that_fails_leaves_no_half_file(tmp_path, monkeypatch):
    monkeypatch.setattr(
        files.os,
        "fsync",
        lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    report = fit(Noisy(), batched(epochs=2, checkpoint=tmp_path, every=0))
    assert list(tmp_path.iterdir()) == []
    assert "there is none yet" in report.notes[0]


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoint.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"checkpoint.safetensors is damaged.*without resuming"):
        fit(Noisy(), batched(epochs=2, checkpoint=tmp_path, resume=True))


def test_energy_ends_a_fit(monkeypatch):
    used = iter(range(1000))
    monkeypatch.setattr(
        loop.Meter,
        "energy",
        property(lambda self: dataclasses.replace(ENERGY, kwh=next(used) * 1e-3)),
    )
    report = fit(Noisy(), batched(epochs=100, max_kwh=0.0115))
    assert report.stopped == "max_kwh of 0.0115 reached"
    assert report.steps == 13


def test_the_running_mean_of_the_weights_is_what_is_kept():
    density = Noisy()
    learner = Gradient(density, Recipe(rate=0.5, memory=0.9))
    learner.begin()
    seen = []
    for step in range(5):
        learner.step(Batch(rows(), ones(), 200.0), stream(step))
        seen.append(density.mean.detach().clone())
    kept = doubles(5.0, 5.0)
    for count, now in enumerate(seen, start=1):
        kept = torch.lerp(kept, now, 1 - min(0.9, count / (count + 9)))
    with learner.averaged():
        assert torch.allclose(density.mean.detach(), kept)
    assert torch.equal(density.mean.detach(), seen[-1])


def test_the_rate_warms_up_and_falls_to_zero():
    learner = Gradient(Noisy(), Recipe(steps=100))
    rates = [learner._schedule(step / 100) for step in range(101)]
    assert rates[0] < rates[2] < rates[5]
    assert max(rates) == rates[5] > 0.99
    assert all(a >= b for a, b in itertools.pairwise(rates[5:]))
    assert rates[-1] < 1e-9
    assert Gradient(Noisy())._schedule(0.7) == 1.0
