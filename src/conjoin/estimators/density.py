"""JointDensity: p(x) alone."""

from typing import Any, Self

import pandas as pd
from sklearn.base import DensityMixin

from conjoin.codecs.kinds import thing_beside
from conjoin.codecs.table.native import plain_frame
from conjoin.core.sampling import Sampling, Walk
from conjoin.estimators.base import Given, Where, _JointEstimator
from conjoin.estimators.reading import seed_of
from conjoin.questions.answers.asking import answer
from conjoin.questions.answers.meaning import Entails
from conjoin.questions.sample import generate, way_of_draws
from conjoin.questions.side_by_side import sample_table

__all__ = ["JointDensity"]


class JointDensity(DensityMixin, _JointEstimator):
    """A model of p(x) alone: familiarity, imputation, new rows.

    Parameters
    ----------
    predictor
        Not used.
    family, random_state, max_time, max_kwh, emphasis, device, precision, verbose
        As of ``JointClassifier``.
    types, missing, missingness, measure, unlabelled, spread, start_from, speed, strict
        As of ``JointClassifier``. Those about labels have no effect.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X = load_iris(as_frame=True).data
    >>> model = JointDensity(family="naive_bayes").fit(X)
    >>> model.score_samples(X.iloc[:2]).shape
    (2,)
    """

    _task = "density"

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        groups: Any = None,
        calibration: float = 0.2,
        *,
        time: Any = None,
        checkpoint: Any = None,
        resume: bool = False,
    ) -> Self:
        """Fit p(x).

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C). A table may have one column of
            molecules in space (``conjoin.codecs.Molecule``) beside columns of their properties,
            cells of which may be missing: p(molecule) p(property | molecule) is modelled then.
        y : object, optional
            Ignored.
        sample_weight, groups, calibration, time, checkpoint, resume
            As of ``JointClassifier.fit``.

        Returns
        -------
        Self
            The fitted estimator.

        Raises
        ------
        ValueError
            For weights or settings that do not fit the rows or each other.
        """
        rows = {"sample_weight": sample_weight, "groups": groups, "time": time}
        asked = {"calibration": calibration, "checkpoint": checkpoint, "resume": resume}
        thing = thing_beside(plain_frame(X))
        if thing is not None:
            return self._fit_side_by_side(plain_frame(X), thing, **rows, **asked)
        return self._fit(X, None, **rows, **asked)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log p(x) of the rows.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).
        y : object, optional
            Ignored.

        Returns
        -------
        float
            Nats, in the units of the raw data.
        """
        return float(self.score_samples(X).mean())

    def sample(
        self,
        n_samples: int = 1,
        given: Given = None,
        random_state: Any = None,
        where: Where = (),
        *,
        tails: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        precision: str = "float32",
        even: bool = False,
        guidance: float | None = None,
        steps: int | None = None,
        candidates: int | None = None,
    ) -> tuple[Any, None]:
        """Draw rows from p(x).

        Parameters
        ----------
        n_samples : int, default 1
            Number of rows.
        given, random_state, where, tails, temperature, top_k, top_p, even
            As of ``JointClassifier.sample``.
        guidance, steps, candidates
            As of ``JointClassifier.sample``.
        precision : str, default "float32"
            As of ``JointClassifier.sample``.

        Returns
        -------
        X : DataFrame or ndarray
            Rows like those of the fit.
        y : None
            There is no target.

        Raises
        ------
        ValueError
            For an unknown column, or constraints that hardly any row keeps.
        """
        seed = seed_of(random_state)
        how = Sampling(temperature, top_k, top_p, precision)
        walk = Walk(guidance, steps, candidates)
        several = self._several()
        if several is not None:
            if where or even or not (how.plain and walk.plain):
                raise ValueError(
                    "where, even, temperature, top_k, top_p, guidance, steps and precision are not "
                    "there for molecules in space beside columns: leave them out."
                )
            return self._given_back(sample_table(several, n_samples, given, seed, tails)), None
        X, _ = generate(self._model(), n_samples, None, given, seed, where, tails, how, even, walk)
        return self._given_back(X), None

    def unfold(
        self,
        n_samples: int = 1,
        given: Given = None,
        random_state: Any = None,
        *,
        guidance: float | None = None,
        steps: int | None = None,
    ) -> list[Any]:
        """What drawn pictures go through, from noise on.

        Parameters
        ----------
        n_samples : int, default 1
            Number of rows.
        given, random_state, guidance, steps
            As of ``sample``.

        Returns
        -------
        list of DataFrame or ndarray
            Rows at each step. The last are those that ``sample`` draws with the same ``given`` and
            ``random_state``.

        Raises
        ------
        CapabilityError
            If rows are not drawn out of noise, or have several pictures.
        """
        seed = seed_of(random_state)
        how = Walk(guidance, steps)
        return list(map(self._given_back, way_of_draws(self._model(), n_samples, given, seed, how)))

    def answer(
        self,
        questions: Any,
        *,
        max_risk: float = 0.1,
        false_alarm: float = 0.05,
        entails: Entails | None = None,
    ) -> pd.DataFrame:
        """Answer questions, each with a verdict: accept, ambiguous or unfamiliar.

        Of the accepted answers at most ``max_risk`` are wrong, for questions like those of
        ``calibrate(questions, answers)``: the bound on the held-out half of them fails in one of
        twenty sets at most.

        Parameters
        ----------
        questions : list of str, or of conversations
            What is asked, each by itself; or as the last message of a conversation, a list of
            messages with ``role`` and ``content``. What the risk is bounded on are questions that
            were asked by themselves, so that the ``reason`` of others says so.
        max_risk : float, default 0.1
            Share of the accepted answers that may be wrong.
        false_alarm : float, default 0.05
            Share of the questions that the model answers rightly, which may be called unfamiliar.
        entails : callable, optional
            As it was given to ``calibrate``.

        Returns
        -------
        DataFrame
            For each question the ``answer`` if it is accepted, the ``verdict`` and the ``reason``;
            ``best_guess``, the most probable answer whatever the verdict; ``confidence``, the
            probability that it is right; ``familiarity``, the p-value of the question;
            ``log_prob``, log p(answer | question) in nats; ``agreement``, the share of draws that
            say the same; ``entropy`` of what the draws say; and ``alternatives``, all different
            answers with their shares. ``attrs["confidence_needed"]`` is what an answer needs to be
            accepted, infinite where no confidence keeps the risk.

        Raises
        ------
        ValueError
            If the model was not calibrated on questions, or a rate can't be promised; the message
            names the number of questions that are needed.

        Examples
        --------
        >>> from conjoin.datasets import bios
        >>> world = bios(24, random_state=1)
        >>> model = JointDensity(family="ngram", types={"text": "text"}).fit(world.texts)
        >>> model = model.calibrate(world.questions, world.answers, draws=2, max_tokens=4)
        >>> list(model.answer(["Where?"], max_risk=0.5, false_alarm=0.2)["verdict"])
        ['unfamiliar']
        """
        return answer(
            self._model(),
            list(questions),
            max_risk=max_risk,
            false_alarm=false_alarm,
            entails=entails,
        )

    def evaluate(self, X: Any, y: Any = None, *, false_alarm: float = 0.05) -> dict[str, Any]:
        """Likelihood and familiarity on held-out rows.

        Parameters
        ----------
        X : DataFrame or array_like, shape (n, d)
            Rows, or images of shape (n, H, W) or (n, H, W, C).
        y : object, optional
            Ignored.
        false_alarm : float, default 0.05
            Share of familiar rows that may be called unfamiliar.

        Returns
        -------
        dict
            Figures by name.
        """
        return self._evaluate(X, None, false_alarm, 0.05)
