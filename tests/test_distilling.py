"""Draws in few calls: what a student learns, and all that stays as it was."""

import numpy as np
import pytest
import torch
from test_picture_diffusion import has_spot, rows, spots

import conjoin
from conjoin import JointClassifier, JointDensity
from conjoin.core import CapabilityError, Edit, Event, stream
from conjoin.families.diffusion.picture import PictureDiffusion
from conjoin.families.diffusion.student import Student, _apart

TINY = PictureDiffusion(size=0.25, steps=20, batch=16, rate=4e-3, points=2, sampling_steps=3)


@pytest.fixture(scope="module", params=["unet", "transformer"])
def fitted(request):
    return JointClassifier(family=TINY.set_params(body=request.param), random_state=0).fit(
        *spots(120)
    )


@pytest.fixture(scope="module")
def quick(fitted):
    return fitted.distil(2, spots(300, seed=1)[0], max_time=0.5)


def test_draws_take_as_many_calls_as_asked_for_and_differ_by_class(fitted, quick):
    density = quick.model_.density_of_x
    one, two = (
        density.draw(3, Event(torch.full((3,), k).double()), generator=stream(0)) for k in (0, 1)
    )
    assert one.calls == two.calls == 2 and not torch.equal(one.value, two.value)
    assert density.unfold(2).shape[0] == 3 and density.draw(2, steps=5).calls == 5
    before, after = (
        m.model_.density_of_x.draw(4, steps=3, generator=stream(1)).value for m in (fitted, quick)
    )
    assert torch.equal(before, after)
    assert np.array_equal(
        quick.sample(3, y=1, random_state=2)[0], quick.sample(3, y=1, random_state=2)[0]
    )


def test_all_other_answers_are_those_of_the_teacher(fitted, quick):
    X, _ = spots(4, seed=2)
    event = rows(X)
    push = torch.ones(4).double()
    for ask in (
        lambda m: m.score_samples(X),
        lambda m: m.predict_proba(X),
        lambda m: m.model_.statistic(m.model_.encode(X)),
        lambda m: m.model_.density_of_x.features(event).detach().numpy(),
        lambda m: m.model_.density_of_x.edit(event, Event(push), how=Edit(1.0, push)).value.numpy(),
    ):
        assert np.array_equal(ask(fitted), ask(quick))
    assert "distilled" not in fitted.model_.facts and not fitted.model_.density_of_x.structure


def test_a_distilled_model_is_saved_and_says_what_it_is(quick, tmp_path):
    folder = quick.save(tmp_path / "quick")
    again = conjoin.load(folder)
    for left, right in zip(
        quick.sample(5, random_state=1), again.sample(5, random_state=1), strict=True
    ):
        assert np.array_equal(left, right)
    assert again.model_.density_of_x.draw(1).calls == 2
    assert "in 2 steps, distilled on 300 rows" in (folder / "README.md").read_text()
    later = JointClassifier(family="diffusion", start_from=folder, max_time=0.2).fit(*spots(120))
    assert later.model_.density_of_x.draw(1).calls == TINY.sampling_steps


def test_a_density_without_classes_learns_from_its_own_draws_and_goes_on_where_it_was_broken_off(
    tmp_path, monkeypatch
):
    for name, value in {"STEPS": 4, "BATCH_ROWS": 8, "DRAWN_ROWS": 30, "HELD_OUT_ROWS": 6}.items():
        monkeypatch.setattr(f"conjoin.fitting.distillation.{name}", value)
    alone = JointDensity(family=TINY, random_state=0).fit(spots(60)[0])
    whole = alone.distil(1)
    assert whole.sample(3)[0].shape == (3, 16, 16) and whole.model_.facts["distilled"]["drawn"]
    calls = iter(range(100))
    loss = Student.loss

    def broken(*asked):
        if next(calls) == 5:  # in the third step: each is judged after it
            raise KeyboardInterrupt
        return loss(*asked)

    monkeypatch.setattr(Student, "loss", broken)
    half = alone.distil(1, checkpoint=tmp_path)
    again = alone.distil(1, checkpoint=tmp_path, resume=True)
    found, unbroken, broken_off = (
        list(m.model_.density_of_x.student.parameters()) for m in (again, whole, half)
    )
    assert all(map(torch.equal, found, unbroken)) and not all(
        map(torch.equal, broken_off, unbroken)
    )


def test_the_loss_is_the_energy_distance_and_least_where_draws_and_rows_are_alike():
    code = torch.arange(40.0) % 2
    x, y = (
        torch.randn(40, 3, 5, generator=stream(seed)) + 2 * code[:, None, None] for seed in (0, 1)
    )
    apart = (
        torch.stack([torch.cdist(y[:, p], torch.cat([x[:, p], y[:, p]])) for p in range(3)]).mean(0)
        / x.var(0).sum(-1).mean().sqrt()
    )
    assert torch.allclose(
        _apart(y, x, None), 2 * apart[:, :40].mean(1) - apart[:, 40:].sum(1) / 39, atol=1e-2
    )
    least = _apart(y, x, code).mean()
    mean = y.mean(0)
    classes_exchanged = y + 2 - 4 * code[:, None, None]
    for other in (y + 1, mean.expand_as(y), mean + 1.5 * (y - mean), classes_exchanged):
        assert _apart(other, x, code).mean() > least + 0.02


def test_what_cannot_be_distilled_is_refused_in_a_sentence(fitted):
    for wrong in (0, True, 2.5, 1000):
        with pytest.raises(ValueError, match="steps must be a whole number from 1 to 64"):
            fitted.distil(wrong)
    with pytest.raises(ValueError, match="at least 16 whole rows, got 15"):
        fitted.distil(1, spots(15)[0])
    with pytest.raises(CapabilityError, match="draws in few calls"):
        JointDensity(family="naive_bayes").fit(spots(60)[0] // 16).distil()


@pytest.mark.slow
def test_one_call_draws_what_many_draw():
    model = JointClassifier(
        family=TINY.set_params(steps=400, batch=32, sampling_steps=10), random_state=0
    ).fit(*spots(700))

    def told(drawn):
        """How much more often the spot is there where it is asked for."""
        return has_spot(drawn.sample(40, y=1)[0]).mean() - has_spot(drawn.sample(40, y=0)[0]).mean()

    many = told(model)
    assert many > 0.5 and told(model.distil(1)) > 0.5 * many  # one call knows less of the class
