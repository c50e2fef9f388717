"""Planted bugs of factor analysis and of latent Dirichlet allocation."""

from mutations_base import at, checks


def named(words: str) -> tuple[str, ...]:
    """Those tests of the topic whose names match a pytest expression."""
    return ("tests/test_factor_topic.py", "-k", words)


FACTORS = named(
    "dense or features or planted_covariance or closed_form or penalised or hold_the_mean or "
    "without_rows"
)
TOPICS = named(
    "points or quadrature or theta or tilting or distinct or cells_are or blocks or "
    "log_prob_is_the_sum"
)
WORDS = named("words or poisson or count")

MUTATIONS = [
    *at(
        "families/classic/gaussian.py",
        checks(
            "quadratic_discriminant and given and (modes or seeds or conditionals or normalisation)"
        ),
        (
            "modes of codes of the first class",
            "self.leaves.modes().T[state], noise)",
            "self.leaves.modes().T[state * 0], noise)",
        ),
        (
            "draws off the lattice",
            "value[:, self.numeric] = self.lattice.snap(numbers)",
            "value[:, self.numeric] = numbers",
            named("lattice"),
        ),
        (
            "every incomplete row has the first pattern",
            "return which, patterns",
            "return which * 0, patterns",
            FACTORS,
        ),
    ),
    *at(
        "families/classic/factor.py",
        FACTORS,
        (
            "determinant of the factors forgotten",
            "- log_det[rows.which]",
            "- 0 * log_det[rows.which]",
        ),
        (
            "missing columns inform the factors",
            "torch.eye(size, dtype=torch.float64) + inner)",
            "torch.eye(size).double() + inner.amax(0))",
        ),
        (
            "factors of the class's uncentred numbers",
            "pull = rows.x @ weighted - rows.known @",
            "pull = rows.x @ weighted - 0 * rows.known @",
        ),
        ("factors drawn by the wrong root", "root.transpose(1, 2) @ hidden", "root @ hidden"),
        (
            "uncertainty of the factors forgotten",
            ("torch.cholesky_inverse(posterior.precision)[rows.which]\n        ).flatten(1)"),
            "0.0).flatten(1)",
        ),
        (
            "weights ignored in the moments",
            "mass = weight[:, None] * rows.known",
            "mass = rows.known",
            checks("factor_analysis and statistics and mixed and not hybrid"),
        ),
        ("residuals lose half of the cross term", "[..., 0] - 2 * cross)", "[..., 0] - cross)"),
        (
            "the floor counts twice",
            "(scatter / count - self._floor).maximum(tiny)",
            "(scatter / count).maximum(tiny)",
        ),
        (
            "the mean of the factors is lost",
            "self.mean_prior + intercept + (loading @",
            "self.mean_prior + intercept + 0 * (loading @",
        ),
        (
            "the root is taken twice",
            "value.clamp_min(0).sqrt()[..., None]",
            "value.clamp_min(0)[..., None]",
        ),
        (
            "tied classes are pooled without their precision",
            "precision = 1 / self._noise()[..., None]",
            "precision = self._noise()[..., None]",
            named("tied_classes"),
        ),
        (
            "shared noise without its own uncertainty",
            "(share.square() * scatter + count * share * self._floor)",
            "(share.square() * scatter)",
        ),
    ),
    *at(
        "families/classic/topic.py",
        TOPICS,
        (
            "points weigh the same whatever alpha",
            "return (statistic @ log_alpha.exp() + log_base)",
            "return (0 * statistic @ log_alpha.exp() + log_base)",
        ),
        (
            "density of the points forgotten",
            "log_base = -each.logsumexp(1) -",
            "log_base = 0 * each.logsumexp(1) -",
        ),
        (
            "the measure of log theta counted twice",
            "- log_theta.sum(1) - LENGTH",
            "- 2 * log_theta.sum(1) - LENGTH",
        ),
        (
            "shares that do not sum to one",
            "theta = theta / theta.sum(1, keepdim=True)\n    length",
            "theta = theta * 1.01\n    length",
        ),
        ("the peak is not put back", "mixed = peak + ((leaf", "mixed = ((leaf"),
        (
            "equal values of a column are merged with their neighbours",
            "(ranked[1:] != ranked[:-1]).long()",
            "(ranked[1:] > ranked[:-1] + 1).long()",
        ),
        (
            "the step of alpha goes downhill",
            "slope = alpha * (wanted - weight @ statistic)",
            "slope = alpha * (weight @ statistic - wanted)",
        ),
        (
            "topics of cells are drawn without the row",
            "topic = self.theta.log()[point][:, None]",
            "topic = self.theta.log()[point.flip(0)][:, None]",
            checks(
                "topic and mixed and conditionals_per_row or topic and mixed and conditionals "
                "and not joint and not hybrid"
            ),
        ),
        (
            "region ignored by the topics' draws",
            "topic = topic + self.leaves.log_region(event.within)",
            "topic = topic + 0",
            checks("topic and mixed and regions and not joint and not hybrid"),
        ),
        (
            "targets forget the rest of the row",
            "return low + high + ((rest - low)",
            "return high + ((rest - low)",
            checks("topic and mixed and targets and not joint and not hybrid"),
        ),
        (
            "blocks of rows overwrite each other",
            "total[key] = total[key] + part if key in total else part",
            "total[key] = part",
        ),
        ("exposure has the wrong sign", '"exposure": -found[3]', '"exposure": found[3]', WORDS),
    ),
    *at(
        "families/classic/counts.py",
        WORDS,
        (
            "counts from zero instead of the least",
            "return ((value - self.least) / self.step).round()",
            "return (value / self.step).round()",
        ),
        ("factorials forgotten", "- torch.lgamma(many + 1)", "- 0 * torch.lgamma(many + 1)"),
        (
            "missing counts are silent words",
            "known @ silent.T",
            "torch.ones_like(known) @ silent.T",
        ),
        (
            "counts below the least are possible",
            "torch.where(many < 0, -torch.inf, 0.0)",
            "torch.where(many < 0, 0.0, 0.0)",
        ),
        (
            "exposure forgotten",
            "/ (exposure + self.smoothing)",
            "/ (exposure.mean() + self.smoothing)",
        ),
    ),
]
