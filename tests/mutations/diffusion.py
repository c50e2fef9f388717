"""Planted bugs of the diffusion families."""

from mutations_base import at

__all__ = ["MUTATIONS"]


def asked(words: str) -> tuple[str, ...]:
    return ("tests/test_diffusion.py", "-k", words)


FOLDER = "families/diffusion/"
UNVEILING = asked("unveiling or orders or objective")
RULE = asked("bayes or steps_are_unbiased")
TIGHT = asked("tight or at_rest")

ABSORBING = at(
    FOLDER + "absorbing.py",
    UNVEILING,
    (
        "the second order is the first again",
        "blocks - 1 - ranks[-1] if index % 2",
        "ranks[-1] if index % 2",
    ),
    ("a cell sees itself", "(rank < block)[None]", "(rank <= block)[None]"),
    (
        "the sum over orders is not divided by their number",
        " - torch.tensor(float(len(each))).double().log()",
        "",
    ),
    (
        "the bound forgets how many cells are gone",
        "cells.sum(1) * self.size / (self.size - left)",
        "cells.sum(1)",
    ),
    (
        "the bound weighs by the cells that are left",
        "self.size / (self.size - left)",
        "self.size / (left + 1)",
    ),
    (
        "known cells are scored too",
        "self.params(self.encode(value), known, code), value, ~known)",
        "self.params(self.encode(value), known, code), value, known)",
    ),
    (
        "repainting draws over what is known",
        "value[:, d] = torch.where(known[:, d], value[:, d], drawn)",
        "value[:, d] = drawn",
        asked("repainting or without_numbers"),
    ),
    (
        "draws do not see the cells drawn before",
        "            known = known | now\n",
        "",
        asked("planted_copy"),
    ),
)
MULTINOMIAL = at(
    FOLDER + "multinomial.py",
    RULE,
    (
        "random levels are forgotten",
        "weight = (stays * here + (1 - stays) / levels)",
        "weight = (stays * here)",
    ),
    (
        "one step too late",
        "before = self.kept(step - 1)[:, None, None]",
        "before = self.kept(step)[:, None, None] + 0.1",
    ),
    (
        "the divergence the wrong way round",
        "(true.exp() * (true - guess))",
        "(guess.exp() * (guess - true))",
        asked("multinomial"),
    ),
    (
        "a step is not counted for all",
        "return -self.steps * self.divergence",
        "return -self.divergence",
        asked("steps_are_unbiased"),
    ),
    (
        "noise for the data",
        "< self.kept(step)[:, None], value, fresh)",
        "< self.kept(step)[:, None], fresh, value)",
        asked("multinomial_bound"),
    ),
    (
        "numbers are not refused",
        "if name := name_of_number(space.variables):",
        "if False:",
        asked("refuses_numbers"),
    ),
)
MIXED = at(
    FOLDER + "mixed.py",
    TIGHT,
    (
        "the integral without its half",
        "return 0.5 * noise.weight * gained",
        "return noise.weight * gained",
    ),
    ("|guess|^2 twice", "guess * (2 * v - guess)", "guess * (2 * v - 2 * guess)"),
    (
        "weighed by the noise, not the signal",
        "rate(noise.time) * alpha**2 * guess",
        "rate(noise.time) * sigma**2 * guess",
    ),
    (
        "v with the wrong sign",
        "v = alpha * noise.eps - sigma * c",
        "v = alpha * noise.eps + sigma * c",
    ),
    (
        "one code's term for all of them",
        "cells * len(self.code) / (~noise.known).sum(1)",
        "cells / (~noise.known).sum(1)",
        asked("row_by_row or codes_cells"),
    ),
    (
        "the prior of z_0 is forgotten",
        "self.numbers.log_cells(x, z, params) - prior",
        "self.numbers.log_cells(x, z, params)",
        asked("codes_cells"),
    ),
    (
        "the prior's KL without its logarithm",
        "+ (alpha * c) ** 2 - 1) - sigma.log()",
        "+ (alpha * c) ** 2 - 1)",
        asked("codes_cells"),
    ),
    (
        "noise without its opposite",
        "return cls(time, torch.cat([eps, -eps])",
        "return cls(time, torch.cat([eps, eps])",
        asked("noise_fills"),
    ),
    (
        "some code is always gone beside noisy numbers",
        "torch.rand(rows, codes, generator=generator, dtype=torch.float64) > time[:, None]",
        "torch.rand(rows, codes, generator=generator, dtype=torch.float64) > 1.0",
        asked("follow_the_code"),
    ),
    (
        "lengths of the noise all alike",
        "shares[:, None] / shares.sum() * weight",
        "weight.expand(RADII, -1)",
        asked("rule_for_the_noise"),
    ),
    (
        "times in the middle count as much as the others",
        "1 + MIDDLE_DENSITY * angle.cos()",
        "torch.ones_like(uniform)",
        asked("rule_for_the_noise or sharp_density"),
    ),
    (
        "a code sees itself at its own time",
        "absorbed > time, torch",
        "absorbed >= time, torch",
        asked("row_by_row or planted_dependence"),
    ),
)
NUMBERS = at(
    FOLDER + "numbers.py",
    asked("columns_become or cells_and_atoms"),
    (
        "the slope upside down",
        ("(value - self.xi) / self.delta) ** 2)\n            + (self.delta"),
        "(value - self.xi) / self.delta) ** 2) - (self.delta",
    ),
    (
        "the cell at a bound ends at its edge",
        "low = torch.where(first, -math.inf, (self(value - half) - mean) / scale)",
        "low = (self(value - half) - mean) / scale",
    ),
    (
        "half cells",
        "half = 0.5 * self.lattice.width",
        "half = 0.25 * self.lattice.width",
    ),
    ("mass beyond the bounds", "cell = cell.masked_fill(outside, -math.inf)", "cell = cell"),
    (
        "the continuous part without its weight",
        "(parts[..., -1] + cell)[..., None]",
        "cell[..., None]",
    ),
    (
        "decoded where the noise is",
        "c = torch.where(self.recorded, mean + scale * noise,",
        "c = torch.where(self.recorded, mean + 2 * scale * noise,",
    ),
)
SAMPLERS = at(
    FOLDER + "samplers.py",
    asked("samplers_reach or ancestral or heun or tight"),
    ("noise of the wrong size", "sigma_to * kept.sqrt() * noise", "sigma_to * kept * noise"),
    (
        "the data and the noise swapped",
        "alpha_to * (alpha * z - sigma * v) + sigma_to * (sigma * z + alpha * v)",
        "sigma_to * (alpha * z - sigma * v) + alpha_to * (sigma * z + alpha * v)",
    ),
    ("the flow twice as fast", "return -0.5 * alpha * sigma * v", "return -alpha * sigma * v"),
    ("the flow backwards", "return -0.5 * alpha", "return 0.5 * alpha"),
    (
        "Heun's correction is Euler's step again",
        "_flow(v, at) + _flow(again, to)",
        "_flow(v, at) + _flow(v, at)",
    ),
    ("calls are not counted", "        self.calls += 1\n", ""),
    (
        "the trace has the wrong sign",
        "gained + (then - time) * trace",
        "gained - (then - time) * trace",
    ),
    (
        "known numbers are not put back",
        "torch.where(given.mask[:, number], noised, state.z)",
        "state.z",
        asked("planted_dependence"),
    ),
)
MUTATIONS = ABSORBING + MULTINOMIAL + MIXED + NUMBERS + SAMPLERS
