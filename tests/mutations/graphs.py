"""Planted bugs of the graphs of codes: bins, variable elimination, Bayesian networks, Markov random
fields.
"""

from mutations_base import at


def named(words: str) -> tuple[str, ...]:
    """Those tests of the topic whose names match a pytest expression."""
    return ("tests/test_graphs.py", "-k", words)


EDGES = named("edges_lie or bins_hold or common_levels or atoms_are or soft_code")
BINS = named("masses_inside or codes_agree or values_are_drawn or peak")
SUMS = named(
    "sum_over_missing or log_target_is or statistics_are or modes_are or eliminate_is or orders_are"
)
DRAWS = named("regions_limit or draws_are")
NETS = named("bic_written or bdeu_is or moves_are or search_ends or settings_bound")
TABLES = named("parameters_are or em_climb")
TREES = named("tree_ or edges_of")
PSEUDO = named("grid_sums or pseudo or near_its_optimum or few_at_a_time")
LOOPS = named("relative_log_p or mean_field_is or gibbs or out_of_reach")

MUTATIONS = [
    *at(
        "families/adapters.py",
        BINS,
        (
            "edges on the recorded values",
            "variable.origin + width * (edge + 0.5)",
            "variable.origin + width * edge",
            EDGES,
        ),
        (
            "lattice that starts at zero",
            "return round((number - variable.origin) / width)",
            "return round(number / width)",
            EDGES,
        ),
        (
            "an atom shares its bin with what is below",
            "around = {a - 1 for a in atoms if a != low} | {",
            "around = {",
            EDGES,
        ),
        (
            "quantiles of distinct values",
            "index_add(0, place, weight).cumsum(0)",
            "index_add(0, place, 0 * weight + 1).cumsum(0)",
            EDGES,
        ),
        (
            "the commonest levels share a code",
            "argsort(descending=True, stable=True)",
            "argsort(stable=True)",
            EDGES,
        ),
        (
            "atoms shape the mixture",
            "mask & ~self._on_atom(value), weight[part]",
            "mask, weight[part]",
            EDGES,
        ),
        (
            "a soft code may be a spike",
            "torch.maximum(self.leaves.log_scale, floor)",
            "self.leaves.log_scale",
            EDGES,
        ),
        (
            "values of one bin worth their marginal",
            ("self._components(event).logsumexp(2) - bins\n            )"),
            "self._components(event).logsumexp(2))",
        ),
        (
            "soft codes by likelihood alone",
            "torch.where(self.soft, self._components(event)",
            "torch.where(self.soft, (self._components(event) - self.log_weight)",
        ),
        (
            "regions do not know their bin's mass",
            "hard = self._log_bins((low, high)) - self._log_bins(self._everything())",
            "hard = self._log_bins((low, high))",
        ),
        (
            "draws leave the region",
            "high = torch.maximum(torch.minimum(high, box[1]), low)",
            "high = torch.maximum(high, low)",
        ),
        (
            "peaks outside of their bin",
            "low + inner), high - inner)",
            "low + inner), torch.full_like(high, math.inf))",
        ),
    ),
    *at(
        "families/classic/elimination.py",
        SUMS,
        (
            "smallest table counts no variable of its own",
            "for other in near[variable] | {variable})",
            "for other in near[variable])",
        ),
        (
            "what is left behind is not connected",
            "(near[other] | left) - {variable, other}",
            "near[other] - {variable, other}",
        ),
        ("no end at the limit", "if largest > limit:", "if False:"),
        (
            "a message is put where it came from",
            "min((place[v] for v in factor.scope)",
            "max((place[v] for v in factor.scope)",
        ),
        (
            "evidence of cells that are known anyway",
            "within[few][:, known].sum(1)",
            "within[few].sum(1)",
            named("any_kind"),
        ),
        (
            "what more is known of a row is lost",
            "[Factor((d,), told[:, d, : self.bins.levels[d]]) for d in order if anything[d]]",
            "[]",
        ),
        (
            "answers in the order of the patterns",
            "torch.cat([values for _, values in parts])[where.argsort()]",
            "torch.cat([values for _, values in parts])[where]",
        ),
        (
            "known axes struck out in the wrong order",
            "moved = table.permute(*seen, *free)",
            "moved = table.permute(*sorted(seen + free))",
        ),
        (
            "variable 0 without the rest",
            "return last + (total - last.logsumexp(1))[:, None]",
            "return last.log_softmax(1)",
        ),
        ("modes by sums", ("height, lambda table: table.amax(-1)\n        )"), "height)"),
        (
            "regions only where a row knows something",
            ("if event.within is None and peaks is None\n            else"),
            "if peaks is None else",
            DRAWS,
        ),
        (
            "draws in the order of the sums",
            "for factor in reversed(joined):",
            "for factor in joined:",
            DRAWS,
        ),
    ),
    *at(
        "families/classic/bayes_net.py",
        NETS,
        (
            "a parameter for every level",
            ("len(count) * (\n            count.shape[1] - 1\n        )"),
            "len(count) * count.shape[1]",
        ),
        ("likelihood of the joint", " - torch.special.xlogy(count.sum(1), count.sum(1)).sum()", ""),
        ("rows with missing cells count for nothing", "(self.total / max(seen, 1e-300))", "1.0"),
        (
            "a prior for each entry of one row each",
            "own = torch.tensor(1 / count.numel(), ",
            "own = torch.tensor(1.0, ",
        ),
        (
            "an arrow up to an ancestor",
            "parent not in own and child not in above[parent]",
            "parent not in own",
        ),
        (
            "an arrow is turned into a cycle",
            (
                "and not any(\n"
                "                    parent in above[o] for o in own - {parent}\n"
                "                )"
            ),
            "",
        ),
        ("a turned arrow is one too many", "if len(other) < self.config.max_parents and", "if"),
        ("no arrow is taken away", "yield {child: own - {parent}}\n", "pass\n"),
        (
            "parents and grandparents only",
            "union(*(above[parent] for parent in own))",
            "union(*(parents[parent] for parent in own))",
        ),
        ("the limit is not kept", "if self._narrow(after):", "if True:"),
        (
            "prior of uniform shares",
            "self.config.smoothing * self.shares[child, : count.shape[-1]]",
            "self.config.smoothing / count.shape[-1]",
            TABLES,
        ),
        (
            "tables with the child among the parents",
            'statistics[f"count.{child}"].movedim(0, -1)',
            'statistics[f"count.{child}"].reshape(logits.shape)',
            TABLES,
        ),
    ),
    *at(
        "families/classic/markov_field.py",
        PSEUDO,
        (
            "pairs count both columns twice",
            "= pair - log_p[i][:, None] - log_p[j]",
            "= pair - log_p[i][:, None]",
            TREES,
        ),
        (
            "a prior of rows for every entry",
            "(count + prior / count.numel())",
            "(count + prior)",
            TREES,
        ),
        (
            "pixels below are no neighbours",
            (",\n        (pixels[:, :-1], pixels[:, 1:])"),
            "",
            TREES,
        ),
        (
            "a label's pixels start at zero",
            ".reshape(grid) + size - math.prod(grid)",
            ".reshape(grid)",
            TREES,
        ),
        (
            "tables turned over",
            "torch.bmm(share[self.second], self.edge.transpose(1, 2))",
            "torch.bmm(share[self.second], self.edge)",
        ),
        (
            "neighbours pull one way",
            (".index_add(0, self.second, pull[0])\n            .index_add(0, self.first, pull[1])"),
            ".index_add(0, self.second, pull[0])",
        ),
        (
            "prior of all rows for each",
            "self.edge.square().sum() / self.total - pseudo",
            "self.edge.square().sum() - pseudo",
        ),
        (
            "missing cells stand at one over L",
            "for _ in range(MEAN_FIELD_ROUNDS if len(open_) else 0):",
            "for _ in range(0):",
        ),
        (
            "constant without its edges",
            "eliminate(factors, elimination_order",
            "eliminate(factors[: len(self.bins.levels)], elimination_order",
        ),
        (
            "a bound without the entropy",
            "torch.broadcast_tensors(*energy, *entropy)",
            "torch.broadcast_tensors(*energy)",
            LOOPS,
        ),
        (
            "one sweep of the columns by themselves",
            "pull = sum(at(factor, v, codes) for factor in mine)",
            "pull = sum(at(factor, v, codes) for factor in mine[:1])",
            LOOPS,
        ),
        (
            "the tables of variable 0 at code 0",
            "factor.scope.index(0) + 1, code)",
            "factor.scope.index(0) + 1, 0)",
            LOOPS,
        ),
    ),
]
