"""Planted bugs of the flows."""

from mutations_base import at

QUICK = "tests/test_flow.py"
SPLINES = (QUICK, "-k", "spline or density or jacobian")
COUPLINGS = (QUICK, "-k", "log_det or reach")
PARTS = (QUICK, "-k", "which or cells or rows_are")
SOLVER = (QUICK, "-k", "order_four or trace_is or normal or estimated")
INTEGERS = (QUICK, "-k", "bijections or integer_flow or rounding")

MUTATIONS = [
    *at(
        "families/flow/spline.py",
        SPLINES,
        (
            "slopes at the ends not 1",
            "pad(slopes, (0, 0) * (slopes.ndim - 1) + (1, 1), value=1.0)",
            "pad(slopes, (0, 0) * (slopes.ndim - 1) + (1, 1), value=0.9)",
        ),
        (
            "no floor of a bin",
            "MIN_BIN_SHARE + (1 - MIN_BIN_SHARE * len(shares)) * shares.softmax(0)",
            "shares.softmax(0)",
        ),
        (
            "derivative not squared",
            "2 * (s / below).log() + above.log()",
            "(s / below).log() + above.log()",
        ),
        (
            "slopes of the ends swapped",
            "above = at.last * t * t + 2 * s * both + at.first",
            "above = at.first * t * t + 2 * s * both + at.last",
        ),
        (
            "inverse looks among the knots of x",
            "at = _bin(inside, params, bound, along=1)",
            "at = _bin(inside, params, bound, along=0)",
        ),
        ("the other root", "-2 * c / (b + root)", "-2 * c / (b - root)"),
        ("bend counted once", "bend = at.first + at.last - 2 * s", "bend = at.first + at.last - s"),
        (
            "numbers outside end at the edge",
            "return torch.where(within, y, x), torch.where(within, log_slope, 0.0)",
            "return y, torch.where(within, log_slope, 0.0)",
        ),
    ),
    *at(
        "families/flow/coupling.py",
        COUPLINGS,
        (
            "the linear map's volume left out",
            "log_det = log_det + slopes + linear.log_diagonal.sum()",
            "log_det = log_det + slopes",
        ),
        (
            "numbers not put back in their places",
            "return y[self.place].T, slopes.sum(0)",
            "return y.T, slopes.sum(0)",
        ),
        (
            "the inverse asks with what is already undone",
            "self._bends(first, seen))[0]\n",
            "self._bends(first + 1, seen))[0]\n",
        ),
        (
            "layers undone from the front",
            "for linear, coupling in reversed(self.layers):",
            "for linear, coupling in self.layers:",
        ),
        (
            "factors in the wrong order",
            "return x @ (lower @ upper).T",
            "return x @ (upper @ lower).T",
        ),
        (
            "nothing keeps the network within reach",
            "first.clamp(-2 * BOUND, 2 * BOUND).T",
            "first.T",
        ),
        (
            "the lower factor taken for an upper one",
            "upper=False, unitriangular=True",
            "upper=True, unitriangular=True",
        ),
    ),
    *at(
        "families/flow/parts.py",
        PARTS,
        (
            "volume of a cell left out",
            "torch.where(self.lattice.width > 0, self.lattice.width, 1.0) / self.scale",
            "1.0 / self.scale",
        ),
        (
            "points only in the upper half of a cell",
            "self.lattice.width * (uniform - 0.5)",
            "self.lattice.width * 0.5 * uniform",
        ),
        ("a sum where a mean belongs", "logsumexp(1) - math.log(draws)", "logsumexp(1)"),
        ("spikes flow", "not variable.atoms and variable.resolution", "variable.resolution"),
        (
            "every row has its own places",
            'generator=generator or stream(0, "dequantise")',
            "generator=generator",
        ),
        (
            "draws not recorded",
            "self.lattice.snap(self.mean + self.scale * z)",
            "self.mean + self.scale * z",
        ),
        (
            "every level of a table flows",
            'return pixel and variable.kind == "ordered"',
            'return variable.kind == "ordered"',
        ),
    ),
    *at(
        "families/flow/continuous.py",
        SOLVER,
        (
            "Simpson's weights wrong",
            "h / 6 * (a + 2 * b + 2 * c + d)",
            "h / 6 * (a + b + 3 * c + d)",
        ),
        (
            "a step from where the last one ended",
            "slope(state + h / 2 * a, time + h / 2)",
            "slope(state + h / 2 * a, time)",
        ),
        ("probes not scaled", "return sign / self.config.probes**0.5", "return sign"),
        (
            "the pull left out of the trace",
            "trace = pull * (probes * probes).sum() + ",
            "trace = pull + ",
        ),
        (
            "the squashing left out of the trace",
            "((1 - near * near) * probes[:, None])",
            "((1 + 0 * near) * probes[:, None])",
        ),
        ("the trace with the wrong sign", "return change - 0.5", "return -change - 0.5"),
        ("the pace of the clock forgotten", "    return 2 * (1 - turn)", "    return 1.0"),
    ),
    *at(
        "families/flow/integer.py",
        INTEGERS,
        ("codes do not come round", "z - self.levels * turns)", "z)"),
        ("translations not undone", "z = layer(z, own, -1.0)", "z = layer(z, own, 1.0)"),
        (
            "undone in the order they were done",
            "for layer in reversed(self.layers):",
            "for layer in self.layers:",
        ),
        ("no rounding", "return t + (t.round() - t).detach()", "return t"),
        (
            "no gradient past the rounding",
            "return t + (t.round() - t).detach()",
            "return t.round()",
            INTEGERS,
        ),
        (
            "what moves sees itself",
            "if d not in moved and v.has_mass]",
            "if v.has_mass]",
        ),
    ),
]
