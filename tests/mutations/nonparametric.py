"""Planted bugs of the Dirichlet process, the Indian buffet process, and what the two share."""

from mutations_base import at


def named(words: str) -> tuple[str, ...]:
    """Those tests of the topic whose names match a pytest expression."""
    return ("tests/test_nonparametric.py", "-k", words)


PIECES = named("ratio_of_marginals or integral_over_mean or in_and_out or ratio_of_joint")
LAYERS = named(
    "students or bound or add_up or lies_behind or last_half or ratio_of_joint or copies"
)
MOVES = named("moves_visit_partitions")
DENSITY = named("ratio_of_joint or last_half or checkpoint")
FEATURES = named(
    "evidence or coefficients or prior_of or wins or winner or moves_of_features or least_probable"
)

MUTATIONS = [
    *at(
        "families/classic/conjugate.py",
        PIECES,
        (
            "posterior mean without the prior's rows",
            "mean = first / precision",
            "mean = first / np.maximum(count, 1.0)",
        ),
        (
            "half as many degrees of freedom",
            "prior.shape + count / 2, prior.rate",
            "prior.shape + count / 4, prior.rate",
        ),
        ("spread around zero", "second - precision * mean * mean, 0.0", "second, 0.0"),
        (
            "missing cells have a probability",
            "self.levels[cluster, ..., -1] = 0.0",
            "self.levels[cluster, ..., -1] = -1.0",
        ),
        (
            "predictive as narrow as the cluster",
            "np.sqrt(2 * rate * (precision + 1) / precision)",
            "np.sqrt(2 * rate)",
        ),
        (
            "an item leaves its square behind",
            "moments[:, 2] += weight * x * x",
            "moments[:, 2] += abs(weight) * x * x",
        ),
        (
            "marginal without the precision",
            "0.5 * (math.log(prior.trust) - np.log(precision))",
            "0.0",
        ),
        (
            "missing cells counted among the levels",
            "np.log(levels[..., :-1].sum(-1))",
            "np.log(levels.sum(-1))",
        ),
    ),
    *at(
        "families/classic/posterior.py",
        LAYERS,
        (
            "mass of t: wrong sign at the upper end",
            "-grads[0] * at_low, grads[0] * at_high",
            "-grads[0] * at_low, -grads[0] * at_high",
        ),
        (
            "t with one degree too many",
            "constant - (freedom + 1) / 2 *",
            "constant - (freedom + 2) / 2 *",
        ),
        (
            "quantiles from the wrong tail",
            "np.where(share > 0.5, -z, z)",
            "np.where(share > 0.5, z, -z)",
        ),
        (
            "a bound's cell ends at its edge",
            "wide = ((step > 0) & (edge | (width",
            "wide = ((step > 0) & ((width",
        ),
        (
            "second table at the place of the first",
            "known = sum(map(len, table)) + cells.place",
            "known = columns + cells.place",
        ),
        (
            "the spike takes the whole cell",
            "rest = (log_atoms[..., -1] + log_mass(low, high))[..., None]",
            "rest = log_atoms[..., -1:]",
        ),
        (
            "unrounded numbers beside their cell",
            "mean + scale * truncated_normal(low, high",
            "numbers + scale * truncated_normal(low, high",
        ),
        (
            "samples since the first sweep",
            "recent = min(self.samples, (count + 1) // 2)",
            "recent = min(self.samples, count)",
        ),
        (
            "samples weigh more than one",
            ("self.log_sample[\n            live\n        ] - math.log(recent)"),
            "self.log_sample[live]",
        ),
        (
            "copies weigh as much as their row",
            "(weight / times).repeat_interleave(times)",
            "weight.repeat_interleave(times)",
        ),
    ),
    *at(
        "families/classic/dirichlet_process.py",
        MOVES,
        (
            "an item votes for its own cluster",
            "before = self._leave(item, old, predictive) if old >= 0 else None",
            "before = predictive.saved(old)",
        ),
        (
            "every empty cluster is a new one",
            "np.flatnonzero(self.members == 0)[:1]",
            "np.flatnonzero(self.members == 0)",
        ),
        (
            "stale predictive of the cluster joined",
            "            predictive.refresh(new)",
            "            pass",
        ),
        ("a merge is judged like a split", "            ratio = -ratio", "            pass"),
        (
            "proposal forgotten",
            "np.maximum(np.where(side, share, 1 - share), 1e-300)",
            "np.ones(len(side))",
        ),
        ("a split costs no alpha", "math.log(self.alpha) + gammaln(two.rows)", "gammaln(two.rows)"),
        (
            "the two that a split sets apart may change sides",
            "            share[anchors] = 0.0, 1.0\n",
            "",
        ),
        (
            "new cluster without weight",
            "np.append(size, restaurant.alpha)",
            "np.append(size, 0.0)",
            DENSITY,
        ),
        ("latent state lost at a checkpoint", "return dict(self.latent)", "return {}", DENSITY),
        (
            "variances drawn upside down",
            "posterior.rate / rng.gamma(posterior.shape)",
            "rng.gamma(posterior.shape) / posterior.rate",
            named("rounding_bounds"),
        ),
    ),
    *at(
        "families/classic/indian_buffet.py",
        FEATURES,
        (
            "a winner competes with itself",
            "below.sum(-1, keepdim=True) - below - 0.5",
            "below.sum(-1, keepdim=True) - 0.5",
        ),
        (
            "losers above the winner",
            "truncated_normal(torch.full_like(own, -math.inf), winner - own",
            "truncated_normal(winner - own, torch.full_like(own, math.inf)",
        ),
        (
            "precision without the noise",
            "reshape(-1, size, size) / self.noise[:, None, None]",
            "reshape(-1, size, size)",
        ),
        (
            "evidence without the determinant",
            ("(moment * mean).sum(1)\n            + determinant"),
            "(moment * mean).sum(1)",
        ),
        ("prior without the shares", "+ z.shape[1] * math.log(share)", ""),
        (
            "draws with the root transposed",
            "solve_triangular(self.root.mT, noise, upper=True)",
            "solve_triangular(self.root, noise, upper=False)",
        ),
        (
            "birth not paid for",
            "(torch.zeros_like(before), back) if bool(before.any()) else (fresh, forth)",
            "(fresh, 0.0)",
        ),
        ("replacement pays one way", "return fresh, forth + back", "return fresh, forth"),
        (
            "tail of the patterns kept instead",
            "log_weight.sort(descending=True)",
            "log_weight.sort()",
        ),
        (
            "shares drawn the wrong way round",
            "torch.as_tensor(log_pi), max(",
            "torch.as_tensor(log_pi[:, ::-1].copy()), max(",
            named("sweeps_visit_f"),
        ),
        (
            "variance from too few rows",
            "NOISE_PRIOR[0] + 0.5 * (",
            "NOISE_PRIOR[0] + 5.0 * (",
            named("sweeps_visit_f"),
        ),
    ),
]
