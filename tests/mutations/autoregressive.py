"""Planted bugs of the autoregressive families and their networks."""

from mutations_base import at

__all__ = ["MUTATIONS"]

TESTS = ("tests/test_autoregressive.py", "-k", "not exclusive")

MUTATIONS = [
    *at(
        "nets/pixel_cnn.py",
        ("tests/test_pixel_cnn.py",),
        (
            "a row sees itself",
            "pad(marked, (0, 0, 1, 0))[:, :, :-1]",
            "pad(marked, (0, 0, 1, 0))[:, :, 1:]",
        ),
        ("a pixel sees itself", "pad(marked, (1, 0))[..., :-1]", "pad(marked, (1, 0))[..., 1:]"),
        (
            "rows above are looked at without holes",
            "pad(elu(v), (0, 0, hole, 0))",
            "pad(elu(v), (0, 0, 2 * hole, 0))[:, :, :-hole]",
        ),
        (
            "a draw looks at the row before",
            ("kept[block][:, :, row - hole]\n                        if"),
            "kept[block][:, :, row - 1] if",
        ),
        (
            "a draw is told the class of the other path",
            "v = v + _gated(u + heard[block][0])",
            "v = v + _gated(u + heard[block][1])",
        ),
    ),
    *at(
        "nets/masked.py",
        TESTS,
        (
            "an input is seen by its own output",
            "self.direct = _Masked(shown[:, :, None] <= wanted",
            "self.direct = _Masked(shown[:, :, None] <= 1 + wanted",
        ),
        (
            "a hidden unit sees one variable too many",
            "rank[:, owner.clamp_min(0)] + 1)",
            "rank[:, owner.clamp_min(0)])",
        ),
        (
            "hidden masks the other way about",
            "same = degree[:, :, None] <= degree[:, None]",
            "same = degree[:, :, None] >= degree[:, None]",
        ),
        (
            "outputs hear one degree too few",
            "self.last = _Masked(degree[:, :, None] <= wanted",
            "self.last = _Masked(degree[:, :, None] < wanted",
        ),
        (
            "weights used without their mask",
            "self.weight[order, :, part] * self.mask[order, :, part]",
            "self.weight[order, :, part]",
        ),
        (
            "the context is masked",
            "shown = torch.where(owner < 0, 0, rank",
            "shown = torch.where(owner < 0, 1, rank",
        ),
        (
            "a column of the first order whatever the order",
            "slice(order, order + 1), slice(d",
            "slice(0, 1), slice(d",
        ),
    ),
    *at(
        "nets/causal.py",
        TESTS,
        (
            "a step reads the first place's weights",
            "weight = self.embed[part] if",
            "weight = self.embed[: part.stop - part.start if part.stop else None] if",
        ),
        (
            "cells outside the image wrap around",
            "padded = torch.cat([cells, self.edge.expand(len(cells), 1, -1)], 1)",
            "padded = torch.cat([cells, cells[:, :1]], 1)",
        ),
        (
            "a token may look at itself",
            "(before < torch.arange(size)[:, None])",
            "(before <= torch.arange(size)[:, None])",
        ),
        ("the context is not told", "context[:, None].expand(-1", "0 * context[:, None].expand(-1"),
    ),
    *at(
        "families/autoregressive/masked.py",
        TESTS,
        (
            "a mean of logarithms in the mixture",
            "return each.logsumexp(1) - math.log(each.shape[1])",
            "return each.mean(1)",
        ),
        (
            "ranks taken for orders",
            "rank = torch.tensor(self.orders).argsort(1)",
            "rank = torch.tensor(self.orders)",
        ),
        (
            "all draws in the first order",
            "mine = (chosen == index).nonzero()[:, 0]",
            "mine = (chosen * 0 == index).nonzero()[:, 0]",
        ),
        ("drawn cells stay hidden from the network", "            shown[:, d] = True\n", ""),
        (
            "the rows that are hidden and those that are not, swapped",
            "(row >= self.config.hide) |",
            "(row < self.config.hide) |",
        ),
        ("the same order twice", "[] if order in found else [order]", "[order]"),
        (
            "the loss in training is the mixture's",
            "self._shown(value, generator), code).mean(1)",
            "self._shown(value, generator), code).logsumexp(1)",
        ),
    ),
    *at(
        "families/autoregressive/causal.py",
        TESTS,
        (
            "a mixture without its share",
            "return each.logsumexp(1) - math.log(each.shape[1])",
            "return each.logsumexp(1)",
        ),
        (
            "parameters left in the order of the scan",
            "[:, torch.tensor(scan).argsort()]",
            "[:, torch.tensor(scan)]",
        ),
        (
            "columns scanned with the neighbours of rows",
            "line = height if scan % 2 else width",
            "line = width",
        ),
        ("a neighbour beyond the right edge", "(column + dx < line)", "(column + dx <= line)"),
        (
            "the network is told no shift",
            ("if shift is None else shift]], 1\n        )"),
            "if shift is None else 0 * shift]], 1)",
        ),
        (
            "shifts the other way",
            "(torch.arange(width) - dx[:, None])",
            "(torch.arange(width) + dx[:, None])",
        ),
        (
            "images move outside of training too",
            "        if not self.training:\n            return -self._whole(value, code, "
            "generator)\n",
            "",
        ),
        (
            "a step forgets the cells before",
            "return (value, known + 1, cache)",
            "return (0 * value, known + 1, cache)",
        ),
        (
            "a step answers for the variable that it was given",
            "self.heads.log_levels_of(known + 1, params)",
            "self.heads.log_levels_of(known, params)",
        ),
        (
            "features see what is missing",
            "cells = self._cells(event.value, event.mask)\n",
            "cells = self._cells(event.value, event.mask | True)\n",
        ),
    ),
]
