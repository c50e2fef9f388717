"""Planted bugs of learning, comparing, images, the deep families' companion and the heads of networks."""

from mutations_base import at, checks

LEARNING = ("tests/test_learning.py",)
MUTATIONS = [
    *at(
        "joint.py",
        LEARNING,
        (
            "emphasis counts unlabelled rows",
            "torch.where(y.mask, -log_joint.log_softmax(1).gather",
            "torch.where(y.mask | True, -log_joint.log_softmax(1).gather",
        ),
        ("emphasis of x instead of y", "return out + self.emphasis * _label_loss(-each, event.y)", "return out + self.emphasis * out"),
        ("prior of an independent joint ignored", "self.log_prior.log_softmax(0)[y.value.long()], 0.0)", "0.0, 0.0)"),
    ),
    *at(
        "comparing.py",
        LEARNING,
        ("energies are ranked", "if status is not Status.RELATIVE:", "if True:"),
        ("the worst is picked", "key=lambda entry: -entry.joint)", "key=lambda entry: entry.joint)"),
        ("no end of the budget", "if left < FEW or", "if left < -1e9 or"),
        ("the label is left out", "each = log_prob + _label(", "each = log_prob + 0 * _label("),
    ),
    *at(
        "codecs/image.py",
        ("tests/test_images.py",),
        ("columns before rows", "rows.reshape(len(rows), -1)", "rows.swapaxes(-1, -2).reshape(len(rows), -1)"),
        ("levels follow the data", "top + 1 if top < FEW else FULL", "top + 1"),
        ("missing pixels are zeros", "known = ~np.isnan(values)", "known = np.ones_like(values, dtype=bool)"),
        ("any number is a pixel", "(known != np.rint(known)) | ", ""),
    ),
    *at(
        "families/deep.py",
        checks("autoregressive and mixed and not joint and not hybrid and (missing_cells or regions or conditionals or batches)"),
        (
            "weights without the proposal",
            "self._in_chunks(value, codes, generator) - self._log_proposal(value, many, codes)",
            "self._in_chunks(value, codes, generator)",
        ),
        ("the mean weight is a sum", "logsumexp(1) - math.log(self.config.draws)", "logsumexp(1)"),
        (
            "draws ignore their weights",
            "chosen = categorical(weight.reshape(event.rows, -1), generator)",
            "chosen = torch.zeros(event.rows, dtype=torch.long)",
        ),
        ("completions overwrite known cells", "return torch.where(event.mask[:, None], event.value[:, None], drawn)", "return drawn"),
    ),
    *at(
        "nets/heads.py",
        checks(
            "autoregressive and mixed and not joint and not hybrid and (normalisation or samples)"
            " or autoregressive and discrete and normalisation"
        ),
        (
            "cells without their width",
            "inside = torch.log(-torch.expm1(-torch.where(width > 0, width / scale, 1.0)))",
            "inside = torch.zeros_like(below)",
        ),
        ("density without its scale", "logsigmoid(z) + logsigmoid(-z) - scale.log()", "logsigmoid(z) + logsigmoid(-z)"),
        ("first cell ends at its edge", "torch.where(first, 0.0, logsigmoid(-low))", "logsigmoid(-low)"),
        ("mass outside the bounds", "continuous = continuous.masked_fill(outside, -math.inf)", "pass"),
        ("impossible levels", "return logits.masked_fill(~self.legal[place], -math.inf)", "return logits"),
        ("draws of another component", "scale.gather(1, chosen)[:, 0] * torch.logit(uniform)", "torch.logit(uniform)"),
        ("atoms never drawn", "part < self.atoms.shape[1], torch", "part < 0, torch"),
    ),
]
