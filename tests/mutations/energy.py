"""Planted bugs of the energies."""

from mutations_base import at


def named(words: str) -> tuple[str, ...]:
    """Those tests of the topic whose names match a pytest expression."""
    return ("tests/test_energy.py", "-k", words)


MUTATIONS = [
    *at(
        "families/energy/annealing.py",
        named("brackets_a_known_constant"),
        (
            "the ratio the wrong way round",
            "log_ratio(walkers, before, after)",
            "log_ratio(walkers, after, before)",
        ),
        (
            "walkers lag one temperature behind",
            "walkers = move(walkers, after, generator)",
            "walkers = move(walkers, before, generator)",
        ),
        (
            "the walk back is not turned round",
            "_relative_error(there), -_log_mean(back))",
            "_relative_error(there), _log_mean(back))",
        ),
        (
            "sum of the weights in place of their mean",
            "float(log_weight.logsumexp(0)) - math.log(len(log_weight))",
            "float(log_weight.logsumexp(0))",
        ),
        ("a standard deviation in place of a standard error", " / math.sqrt(len(weight))", ""),
        ("the walk back starts at the wrong end", "start(1.0, generator)", "start(0.0, generator)"),
    ),
    *at(
        "families/energy/joint_energy.py",
        named("mixture or contrast or logits or region_of_y or emphasis"),
        ("classes do not start even", " - math.log(self.classes)", ""),
        (
            "the mixture left out of log p",
            "return self.companion.log_prob(x)[:, None] + tilt",
            "return tilt",
        ),
        (
            "rows taken for noise",
            "softplus(-real) + softplus(false)",
            "softplus(real) + softplus(-false)",
        ),
        ("noise is not told from rows", "softplus(-real) + softplus(false)", "softplus(-real)"),
        ("an unlabelled row is class 0", " | ~event.mask[:, :1]\n", "\n"),
        (
            "the region of y is not heeded",
            "may = may & (inside | event.mask[:, :1])",
            "may = may & True",
        ),
        (
            "candidates in the order of the classes",
            "[:, candidates.long()]",
            "[:, : len(candidates)]",
        ),
        (
            "a move is accepted whatever the temperature",
            ("log() < beta * (\n            after - score\n        )"),
            "log() < after - score",
            named("metropolis"),
        ),
        (
            "a move is judged the wrong way round",
            ("log() < beta * (\n            after - score\n        )"),
            "log() < beta * (score - after)",
            named("metropolis"),
        ),
        (
            "the walk forgets its new energy",
            "torch.where(accepted, after, score)",
            "score",
            named("metropolis"),
        ),
        (
            "annealing without the difference of temperatures",
            "(after - before) * walk[1]",
            "after * walk[1]",
            named("agrees_with_the_sum"),
        ),
        (
            "Langevin's noise too small",
            "math.sqrt(step) * noise",
            "step * noise",
            named("steps_follow"),
        ),
        (
            "Langevin walks downhill",
            "x.detach() + 0.5 * step * slope",
            "x.detach() - 0.5 * step * slope",
            named("steps_follow"),
        ),
        (
            "a diverged energy goes on",
            "return torch.where(gone, math.inf, false",
            "return torch.where(gone, 0.0, false",
            named("diverged"),
        ),
        (
            "chains learn the opposite",
            "math.inf, false - real +",
            "math.inf, real - false +",
            named("diverged"),
        ),
    ),
    *at(
        "core/block.py",
        named("pixels"),
        ("the grid is lost beside y", '"vector", self.grid, self.blocks', '"vector"'),
    ),
    *at(
        "families/energy/rbm.py",
        named("summed or estimate_missing or pseudo or targets_inside or annealed_constant"),
        (
            "hidden biases left out of the sum",
            "self.states @ self.hidden\n            + product",
            "0.0\n            + product",
        ),
        ("half of the hidden states", "(bits % 2)", "(bits % 2 * (bits < 2))"),
        (
            "free energy without the visible biases",
            "return -self._bias_of(codes) - softplus",
            "return -softplus",
        ),
        (
            "hidden units with three states",
            "softplus(self._field(codes)).sum(1)\n\n    def _log_target",
            "softplus(1 + self._field(codes)).sum(1)\n\n    def _log_target",
        ),
        (
            "importance weights without the proposal",
            "return (joint - proposal).logsumexp(1)",
            "return joint.logsumexp(1)",
        ),
        (
            "the proposal is of the other state",
            "logsigmoid((2 * h - 1) * field)",
            "logsigmoid((1 - 2 * h) * field)",
        ),
        (
            "the others are counted twice",
            "column = self._log_hidden(self.units.log_prob(many._replace(within=None))) - nothing",
            "column = self._log_hidden(self.units.log_prob(many._replace(within=None)))",
        ),
        ("pseudo-likelihood of one column", "return -size * logits", "return -logits"),
        ("the base constant without the hidden states", " + len(self.hidden) * math.log(2)", ""),
        ("annealing keeps the whole field", "softplus(before * field)", "softplus(field)"),
        (
            "Gibbs at full strength",
            "(beta * self._field(codes)).sigmoid()",
            "self._field(codes).sigmoid()",
            named("steps_keep"),
        ),
        (
            "columns do not hear the hidden units",
            "beta * torch.tensordot(on.double()",
            "0 * torch.tensordot(on.double()",
            named("steps_keep"),
        ),
        (
            "chains learn the opposite",
            "self._free_energy(codes) - self._free_energy(fake)",
            "self._free_energy(fake) - self._free_energy(codes)",
            named("persistent"),
        ),
    ),
    *at(
        "families/energy/units.py",
        named("pieces_of_a_number or targets_inside or halves_of_a_number"),
        (
            "a region's set is not heeded",
            "keep[: len(region.allowed[d])] &= region.allowed[d]",
            "keep = keep & True",
        ),
        (
            "a region's bounds are not heeded",
            "keep = keep & (code >= region.low[d]) & (code <= region.high[d])",
            "keep = keep & True",
        ),
        (
            "shares of the pieces stay even",
            "share.mul((weight[:, None] * known)[..., None]).sum(0)",
            "share.mul(0).sum(0) + 1",
        ),
        (
            "numbers get the regions of the first columns",
            "event.within.low[self.numeric], event.within.high[self.numeric]",
            "event.within.low[: len(self.numeric)], event.within.high[: len(self.numeric)]",
        ),
    ),
    *at(
        "nets/logits.py",
        named("pixels"),
        (
            "grey levels from 0 to 2",
            "2 * x / self.scale.clamp_min(1.0) - 1",
            "2 * x / self.scale.clamp_min(1.0)",
        ),
        (
            "a grid is never used",
            "if space.grid is not None and math.prod",
            "if space.grid is None and math.prod",
        ),
    ),
]
