"""Planted bugs of the latent-variable families."""

from mutations_base import at

TESTS = ("tests/test_latent.py",)
PRIORS = (*TESTS, "-k", "priors or mixtures or pseudo")
BOUND = (*TESTS, "-k", "bound or loss or noise or share")
LEVELS = (*TESTS, "-k", "q_integrates or ladder")
WORDS = (*TESTS, "-k", "word or perplexity or collapse")
START = (*TESTS, "-k", "fit_alone or memory or classes or pixels or collapse or refused")

MUTATIONS = [
    *at(
        "families/latent/priors.py",
        PRIORS,
        (
            "scales without their logarithm",
            (" - scale.log().sum(1)).logsumexp(\n            -1\n        )"),
            ").logsumexp(-1)",
        ),
        ("the cross term once", "- 2 * z @ (mean * precision).T", "- z @ (mean * precision).T"),
        (
            "weights of components not normalised",
            "return self.logits.log_softmax(0), *gaussian(self.params)",
            "return self.logits, *gaussian(self.params)",
        ),
        (
            "pseudo-inputs are rows",
            "(inputs[first] + inputs[second]) / 2 + 0.1 * noise",
            "inputs[first]",
        ),
        (
            "volume of the flow has the wrong sign",
            "volume - scale.sum(-1)",
            "volume + scale.sum(-1)",
        ),
        (
            "flow drawn in the wrong order",
            "for layer in reversed(range(len(self.nets))):",
            "for layer in range(len(self.nets)):",
        ),
        (
            "flow moves what it looks at",
            "free = 1 - self.masks[layer]",
            "free = torch.ones_like(self.masks[layer])",
        ),
        (
            "all draws from one component",
            "categorical(log_weight.expand(n, -1), generator)",
            "categorical(log_weight, generator).expand(n)",
        ),
    ),
    *at(
        "families/latent/levels.py",
        LEVELS,
        (
            "variances weighed as scales",
            "return (first[0] * precisions[0] + second[0] * precisions[1]) / total, total**-0.5",
            "return (first[0] * precisions[0] + second[0] * precisions[1]) / total, total**-1",
        ),
        (
            "standard deviations for precisions",
            "first[1] ** -2, second[1] ** -2",
            "first[1] ** -1, second[1] ** -1",
        ),
        ("the lower level's q is forgotten", " - log_normal(low, *_weighed(below, expected))", ""),
        (
            "the lower level's draws ignore the upper",
            "mean, scale = _weighed(below, gaussian(self.down(high)))\n        return "
            "torch.cat([high, mean",
            "mean, scale = below\n        return torch.cat([high, mean",
        ),
        (
            "log q with the wrong sign",
            ("self._encode(encoder)) - log_normal(\n            z, *gaussian"),
            "self._encode(encoder)) + log_normal(z, *gaussian",
        ),
        ("noise without its scale", "return mean + scale * noise\n", "return mean + noise\n"),
    ),
    *at(
        "families/latent/vae.py",
        BOUND,
        (
            "sum of weights in place of their mean",
            "log_weight.logsumexp(1) - math.log(draws)",
            "log_weight.logsumexp(1)",
        ),
        (
            "draws of the prior weighed as draws of q",
            (
                "torch.logaddexp(\n"
                "            share[0] - self.level.log_ratio(seen, z, self.encoder), share[1]\n"
                "        )"
            ),
            "-self.level.log_ratio(seen, z, self.encoder)",
        ),
        ("every row has the same noise", "shift = value @ slope +", "shift = 0 * value @ slope +"),
        (
            "the sequence is not shifted",
            "(points + shift[:, None]) % 1",
            "(points + 0 * shift[:, None]) % 1",
        ),
        (
            "the prior counts in full from the start",
            "self._prior_weight() * self.level.log_ratio",
            "self.level.log_ratio",
        ),
        (
            "no draw of the prior",
            "blind = self.particles // PARTICLES_PER_PRIOR_DRAW",
            "blind = 0 * self.particles",
        ),
        (
            "units counted by their mean",
            ".var(0, unbiased=False) > MIN_ACTIVE_VARIANCE",
            ".square().mean(0) > -1",
            START,
        ),
    ),
    *at(
        "families/latent/autoencoder.py",
        START,
        (
            "cells hidden outside of the fit",
            "        if not self.training:\n            return Event(value)\n",
            "",
        ),
        (
            "known and hidden cells swapped",
            ("dtype=torch.float64) >= self.unseen\n        )"),
            "dtype=torch.float64) < 0.2 * self.unseen)",
        ),
        ("the prior gains nothing", "min(1.0, float(self.done) /", "min(0.0, float(self.done) /"),
        (
            "the decoder does not see the class",
            "torch.cat([z, self.context(len(z), code)], 1)",
            "torch.cat([z, 0 * self.context(len(z), code)], 1)",
            (*TESTS, "-k", "classes"),
        ),
        (
            "the encoder does not see the class",
            "self.context(event.rows, code)], 1)",
            "self.context(event.rows, None)], 1)",
        ),
        (
            "latent vectors in another order than rows",
            "value.repeat_interleave(draws, 0)",
            "value.repeat(draws, 1)",
            BOUND,
        ),
        (
            "rows are left out where memory is short",
            "return slices(rows, ",
            "return slices(rows // 2, ",
        ),
    ),
    *at(
        "families/latent/discrete.py",
        WORDS,
        (
            "the decoder learns from the posterior too",
            "joint.log_softmax(1).detach()",
            "joint.log_softmax(1)",
        ),
        (
            "q is pushed away from the posterior",
            "return excess - joint.logsumexp(1)",
            "return -excess - joint.logsumexp(1)",
        ),
        ("one word is kept", "each.topk(min(beam, each.shape[1]), 1)", "each.topk(1, 1)"),
        (
            "prefixes mixed up",
            "(chosen // levels)[..., None]",
            "(chosen % beam % total.shape[1])[..., None]",
        ),
        (
            "parts of the prior not normalised",
            "(self.parts.log_softmax(0) + each)",
            "(self.parts + each)",
        ),
        (
            "the prior of the words is forgotten",
            "(self._log_prior(hot) + self._log_given",
            "(0 * self._log_prior(hot) + self._log_given",
        ),
        (
            "codes drawn from one part",
            "part = categorical(self.parts.expand(n, -1), generator)",
            "part = torch.zeros(n, dtype=torch.long)",
        ),
        ("no gradient past the draw", "+ soft - soft.detach()", "+ 0 * soft"),
        (
            "draws at a temperature",
            "soft = ((log_code - torch.log(-torch.log(uniform))) / RELAXATION_TEMPERATURE)",
            "soft = (log_code / RELAXATION_TEMPERATURE - torch.log(-torch.log(uniform)))",
        ),
        ("perplexity of each row", ".exp().mean(0)\n", ".exp()[0]\n"),
    ),
]
