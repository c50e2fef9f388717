"""Planted bugs: mistakes that a person could make, each in one place of the real code.

To add one, append a ``Mutation``: its name, the file under src/conjoin, the exact old text (it must
occur there once), the new text, and the tests that ought to notice (arguments of pytest; the
faster, the better). Files beside this one that hold ``MUTATIONS`` of their own are found by run.py.
"""

from mutations_base import at, checks

LEAF_TESTS = ("tests/test_leaves.py",)
JOINT_TESTS = ("tests/test_joint.py",)
# those that kill processes take a minute
TRAINING_TESTS = (
    "tests/test_training.py",
    "-k",
    "not killed",
)


NAIVE = checks("naive_bayes and not hybrid")
MIXTURE = checks("mixture and not joint")
CIRCUIT = checks("circuit and not joint and not hybrid")
PASSES = ("tests/test_circuit.py",)
GAUSSIAN = checks("quadratic and not joint or linear and given")
CLASSES = checks("naive_bayes and joint")
HYBRID = checks("naive_bayes and hybrid")
TOYS = checks("not test_family")


OUTLINE = at(
    "calibration/",
    ("tests/test_familiarity.py",),
    (
        "the Gaussian is not widened",
        "1 / (scale.square() + ADDED_VARIANCE) - 1 / ADDED_VARIANCE",
        "1 / scale.square() - 1 / ADDED_VARIANCE",
    ),
    (
        "what lies across the axes counts for nothing",
        "@ gain + apart.square().sum(1) / ADDED_VARIANCE)",
        "@ gain)",
    ),
    ("rows are not centred", "apart = coded - centre", "apart = coded"),
    (
        "cells that are missing count",
        "                if pattern[d]\n",
        "                if d >= 0\n",
    ),
    (
        "numbers in their own units",
        "(value - self.middle) / self.spread)",
        "(value - self.middle))",
    ),
    (
        "the second reading is not standardised",
        "(self.gaussian(x.value[rows], pattern) - middle) / spread",
        "(self.gaussian(x.value[rows], pattern) - middle)",
    ),
    (
        "the first reading is dropped",
        "out[rows] = (raw[rows] - mean) / deviation",
        "out[rows] = 0 * raw[rows]",
    ),
)

GAPS = at(
    "calibration/",
    ("tests/test_questions.py", "-k", "lack or gaps"),
    (
        "rows that lack the same cells are not looked for",
        "if known is None or filled is None else",
        "if True else",
    ),
    (
        "few rows speak for their kind",
        ("(same, MIN_PATTERN_ROWS),\n                    *choices,\n                ]"),
        "(same, 1), *choices]",
    ),
    ("none stand in", ("(hidden[~np.isnan(hidden)], MIN_PATTERN_ROWS),\n                    "), ""),
    (
        "what cannot be is ranked among its kind",
        "np.where(np.isneginf(statistic), ALL_PATTERNS, pattern)",
        "np.where(np.isnan(statistic), ALL_PATTERNS, pattern)",
    ),
)

INTERVALS = at(
    "components/intervals.py",
    LEAF_TESTS,
    (
        "interval mass: derivative at the lower end has the wrong sign",
        "return -grads[0] * (log_normal(low)",
        "return grads[0] * (log_normal(low)",
    ),
    ("interval mass: underflow far out", "far = b < -30", "far = b < -3000"),
    ("interval mass: the upper tail cancels", "upper = low + high > 0  #", "upper = low > high  #"),
    (
        "truncated moments: lower edge has the wrong sign",
        "edge = torch.where(at_low > 0, low * at_low, at_low) -",
        "edge = -torch.where(at_low > 0, low * at_low, at_low) -",
    ),
)

LEAVES = at(
    "components/leaves.py",
    LEAF_TESTS,
    (
        "density without 1 / sigma",
        "size = size - self.log_scale[",
        "size = size - 0 * self.log_scale[",
    ),
    (
        "cell without its width",
        "size = torch.where(step > 0, step, 1.0).log()[:, None]",
        "size = torch.zeros_like(step)[:, None]",
    ),
    (
        "mass outside the bounds",
        "return log_density.masked_fill(outside[:, None], -math.inf)",
        "return log_density",
    ),
    (
        "first cell ends at its edge",
        "low = torch.where(first, -math.inf, z - width / 2)",
        "low = z - width / 2",
    ),
    ("cell twice as wide below", "-math.inf, z - width / 2)", "-math.inf, z - width)"),
    (
        "atom or cell instead of atom and cell",
        "torch.logaddexp(spike, out[some])",
        "torch.maximum(spike, out[some])",
    ),
    (
        "continuous part without its weight",
        "out = log_atoms[..., -1][cells.column] + continuous",
        "out = 0 * log_atoms[..., -1][cells.column] + continuous",
    ),
    (
        "neighbouring cells merged",
        "fresh[1:] = ranked[1:] != ranked[:-1]",
        "fresh[1:] = ranked[1:] > ranked[:-1] + 1",
        NAIVE,
    ),
    (
        "impossible levels get probability",
        "self.logits.masked_fill(~self.legal[:, None], -math.inf)",
        "self.logits",
    ),
    (
        "missing cells are scored",
        "return torch.where(observed[..., None], parts, torch.zeros_like(parts))",
        "return parts",
        NAIVE,
    ),
    (
        "second moment without the factor 2",
        "mean**2 + 2 * mean * scale * first",
        "mean**2 + mean * scale * first",
    ),
    (
        "rounding inside narrow cells forgotten",
        "second = z * z + width * width / 12",
        "second = z * z + width * width",
    ),
    (
        "statistics count missing cells",
        "else share * observed[..., None]\n",
        "else share + 0\n",
        NAIVE,
    ),
    (
        "moments of cells that have another mass",
        "moments_inside(low, high, log_density[wide])",
        "moments_inside(low, high, log_density[wide] + 1)",
    ),
    ("the spike's share also moves the mean", "            share = share * from_rest\n", ""),
    (
        "spike and continuous part swapped",
        "torch.sigmoid(rest + continuous - spike)",
        "torch.sigmoid(spike - rest - continuous)",
    ),
    ("levels without a prior", "(counts + lent).log_()", "counts.log()"),
    ("near levels lend nothing", "counts @ (kernel / kernel.sum(2, keepdim=True))", "counts * 0"),
    (
        "all levels equally near",
        ("0.5\n            ** (\n                (level[:, None] - level).abs()"),
        "1.0 ** ((level[:, None] - level).abs()",
    ),
    (
        "loans of a fixed size",
        "self.strength.copy_(_stronger(self.strength, mean[:, some], counts[:, some]))",
        "self.strength.fill_(self.smoothing)",
    ),
    (
        "evidence without its normaliser",
        "torch.digamma(counts.sum(2) + strength[:, None])",
        "torch.digamma(counts.sum(2) + 1.0)",
    ),
    (
        "prior of the variance not counted",
        "/ (\n                count + self.smoothing\n            )\n            ",
        "/ count\n            ",
    ),
    (
        "marginal ignores weights",
        "w.sum(0).clamp_min(1e-300)\n                self.mean_prior.copy_((w * x).sum(0) / count)",
        "w.sum(0).clamp_min(1e-300)\n                self.mean_prior.copy_(x.mean(0))",
    ),
    (
        "snapping leaves the bounds",
        "torch.minimum(torch.maximum(recorded, self.low), self.high)",
        "recorded",
    ),
    (
        "snapping forgets the origin",
        "recorded = self.origin + width * torch.round(",
        "recorded = width * torch.round(",
    ),
    (
        "numbers drawn from the global generator",
        "return torch.rand(flip.shape, generator=generator, dtype",
        "return torch.rand(flip.shape, dtype",
        NAIVE,
    ),
    ("numbers drawn outside the region", "box = self._box(region)", "box = self._box(None)"),
    (
        "codes drawn outside the region",
        "(self.log_levels() + self._allowed(region)).softmax(-1)",
        "self.log_levels().softmax(-1)",
        NAIVE,
    ),
    ("upper half drawn mirrored", "torch.where(flip, -z, z)", "z"),
    (
        "region ends at the middle of its last cell",
        ("/ step + 1e-6) + 0.5\n        )"),
        "/ step + 1e-6))",
    ),
    (
        "atoms above the region count",
        "torch.where((self.atoms >= low) & (self.atoms <= high)",
        "torch.where((self.atoms >= low)",
    ),
    (
        "atoms drawn outside the region",
        "0.0 if region is None else self._log_parts_inside(region))",
        "0.0)",
        NAIVE,
    ),
    (
        "region of known cells counted too",
        "else leaf + torch.where(event.mask[..., None], 0.0, self.log_region",
        "else leaf + torch.where(~event.mask[..., None], 0.0, self.log_region",
    ),
    (
        "the mode forgets the cells at the bounds",
        "fixed = torch.cat([self.lattice.low[:, None], self.lattice.high[:, None], self.atoms], 1)",
        "fixed = self.atoms",
    ),
    (
        "the mode forgets the atoms",
        "self.lattice.high[:, None], self.atoms], 1)",
        "self.lattice.high[:, None]], 1)",
    ),
)

FAMILIES = [
    *at(
        "families/classic/mixture.py",
        MIXTURE,
        (
            "components' weights not normalised",
            "return self.log_weight.log_softmax(0) + self.leaves",
            "return self.log_weight + self.leaves",
        ),
        (
            "the best component instead of the sum",
            "return self._joint(event).logsumexp(1)",
            "return self._joint(event).amax(1)",
        ),
        (
            "responsibilities normalised over rows",
            "(joint - log_prob[:, None]).exp()",
            "joint.softmax(0)",
        ),
        ("weights ignored in the statistics", "share = weight[:, None] * (joint", "share = (joint"),
        (
            "mean instead of sum of responsibilities",
            '{"component": share.sum(0)}',
            '{"component": share.mean(0)}',
        ),
        (
            "component drawn without the known cells",
            "component = categorical(self._joint(event), generator)",
            "component = categorical(self.log_weight.expand(event.rows, -1), generator)",
        ),
        (
            "region ignored by draws",
            ("expand_as(event.value), generator, event.within\n        )"),
            "expand_as(event.value), generator)",
        ),
        (
            "the mode of the first component",
            "filled[log_prob.argmax(0), torch",
            "filled[log_prob.argmax(0) * 0, torch",
        ),
    ),
    *at(
        "families/circuit/latent_tree.py",
        CIRCUIT,
        (
            "transition transposed in log-space",
            "@ edge[place].T).log()",
            "@ edge[place]).log()",
            PASSES,
        ),
        (
            "prior of the root dropped",
            "return self.root_logits.log_softmax(0)[self._own(t)[0]] + self._beliefs(leaf, t)[0]",
            "return self._beliefs(leaf, t)[0]",
            PASSES,
        ),
        (
            "walks ignore what is known below",
            "choose(log_edge[place][chosen[parents[node]]] + belief[node])",
            "choose(log_edge[place][chosen[parents[node]]])",
            PASSES,
        ),
        ("weights ignored in the statistics", "weight[block] * up.sound,", "1.0 * up.sound,"),
        (
            "counts of edges transposed",
            '(statistics["edge"] + smoothing)',
            '(statistics["edge"].transpose(1, 2) + smoothing)',
            TOYS,
        ),
        (
            "peak of the leaves forgotten in log_target",
            "((rest - low + high).exp() @",
            "((rest - low).exp() @",
        ),
        (
            "the known target counts twice in log_target",
            "self._at_root(event.hide(hidden))",
            "self._at_root(event)",
        ),
        (
            "impossible cells give NaN",
            "            peak = torch.where(peak.isfinite(), peak, 0.0)",
            "            # peak = torch.where(peak.isfinite(), peak, 0.0)",
        ),
        (
            "faint rows keep what underflowed",
            (
                "parts[-1][faint] = of_top(\n"
                "                        "
                "self._top(self._leaf(event.take(faint + block.start)), t)\n"
                "                    )"
            ),
            "faint = faint",
            PASSES,
        ),
        (
            "the same tree for every row",
            ("categorical(self._quick(event).T, generator)\n            if several"),
            "torch.zeros(event.rows).long() if several",
            PASSES,
        ),
        (
            "states of the first tree",
            "tree.draw(up, len(part), generator) + own.start",
            "tree.draw(up, len(part), generator)",
            PASSES,
        ),
        (
            "the best tree instead of the sum",
            "else self._quick(event).logsumexp(0)",
            "else self._quick(event).amax(0)",
            PASSES,
        ),
        (
            "trees on the same rows",
            "total * torch.rand(draws, generator=generator, dtype=torch.float64)",
            "torch.linspace(0, total, draws).double()",
            PASSES,
        ),
    ),
    *at(
        "families/circuit/passes.py",
        PASSES,
        (
            "transition transposed on the way up",
            "held.value @ self.edge[node].T",
            "held.value @ self.edge[node]",
        ),
        (
            "scale of a product forgotten",
            "self.log_scale + peak.log()",
            "self.log_scale + 0.0 * peak",
        ),
        (
            "peaks of the cells forgotten",
            "leaves.peak.index_select(0, own.cell),",
            "0.0 * leaves.peak.index_select(0, own.cell),",
        ),
        (
            "scale of a message forgotten",
            "self.log_scale + _take(message.log_scale, index)",
            "self.log_scale",
        ),
        ("all rows called sound", "_both(self.sound, sound))", "sound | ~sound)"),
        (
            "prior of the root dropped",
            "up.log_scale + (up.top @ self.root).double().log()",
            "up.log_scale + up.top.sum(1).double().log()",
        ),
        ("parents of what is known skipped", "needed.add(self.parents[node])", "needed.add(node)"),
        (
            "expected transitions transposed",
            "addmm_(above.T, up.product[node])",
            "addmm_(up.product[node].T, above)",
        ),
        (
            "message left in the parent's share",
            "share[node] / up.message[node].clamp_min(torch.finfo(top.dtype).tiny)",
            "share[node] / 1.0",
        ),
        (
            "parts of the rows told by their own cell alone",
            "key = key * part.number + part.of_row",
            "key = key * part.number",
        ),
        (
            "draws ignore what is known below",
            "total = (prior * known) @ below",
            "total = prior @ below",
        ),
        (
            "draws ignore the parent",
            ".index_select(0, states[parent])",
            ".index_select(0, states[parent] * 0)",
        ),
    ),
    *at(
        "families/circuit/structure.py",
        TOYS,
        (
            "the weakest links instead of the strongest",
            "cost = whole.max() - whole + 1.0",
            "cost = whole - whole.min() + 1.0",
        ),
        (
            "rows counted without weights",
            "weighted = (flat * weight[:, None]).T",
            "weighted = flat.T",
        ),
    ),
    *at(
        "families/classic/discriminant.py",
        GAUSSIAN,
        ("determinant has the wrong sign", "- log_det[:, None]).T", "+ log_det[:, None]).T"),
        (
            "volume of the cells forgotten",
            ("log_det[:, None]).T\n                + volume[seen].sum()\n            )"),
            "log_det[:, None]).T)",
        ),
        (
            "variance of missing cells forgotten",
            "second[k][gone[:, None], gone] += w.sum() * left",
            "second[k][gone[:, None], gone] += 0 * left",
        ),
        (
            "conditional covariance is the marginal one",
            "left = covariance[k][gone][:, gone] - covariance[k][gone][:, seen] @ gain",
            "left = covariance[k][gone][:, gone]",
        ),
        (
            "conditional mean not centred",
            "(full[:, seen] - self.mean[k, seen]) @ gain",
            "full[:, seen] @ gain",
        ),
        (
            "rows come back in the order of their patterns",
            "return torch.cat(parts)[torch.cat(order).argsort()]",
            "return torch.cat(parts)",
        ),
        (
            "shared covariance averaged over classes",
            "scatter = scatter.sum(0, keepdim=True)",
            "scatter = scatter.mean(0, keepdim=True)",
        ),
        ("the floor is added twice", "above = self._above_floor(covariance)", "above = covariance"),
        (
            "rounding adds to the variance of draws",
            ("torch.linalg.cholesky(\n                left - torch.diag(rounding) +"),
            "torch.linalg.cholesky(left +",
        ),
        ("weights ignored in the means", "first[k] += w @ full", "first[k] += full.sum(0)"),
    ),
    *at(
        "families/classic/naive_bayes.py",
        NAIVE,
        (
            "weights ignored in the statistics",
            "share = (weight[:, None] * state)",
            "share = (state)",
        ),
        (
            "region ignored by log_prob",
            "return self.leaves.log_event(event).sum(1)",
            "return self.leaves.log_prob(event.value, event.mask).sum(1)",
        ),
        (
            "region ignored by draws",
            "self.leaves.sample(states, generator, event.within)",
            "self.leaves.sample(states, generator)",
        ),
        (
            "class ignored by draws",
            "states = self._state(n, context)[:, None]",
            "states = self._state(n, None)[:, None]",
        ),
    ),
]

JOINTS = at(
    "joints/",
    CLASSES,
    (
        "prior of the classes dropped",
        "return self.log_prior.log_softmax(0) + self.density",
        "return self.density",
    ),
    (
        "prior of the classes not normalised",
        "return self.log_prior.log_softmax(0) + self.density",
        "return self.log_prior + self.density",
        checks("naive_bayes and hybrid and normalisation"),
    ),
    (
        "unlabelled rows scored as class 0",
        "return torch.where(event.y.mask, labelled, joint.logsumexp(1))",
        "return labelled",
    ),
    (
        "the best class instead of the sum",
        "torch.where(event.y.mask, labelled, joint.logsumexp(1))",
        "torch.where(event.y.mask, labelled, joint.amax(1))",
    ),
    (
        "unlabelled rows counted as class 0",
        (
            "torch.where(\n"
            "            event.y.mask[:, None], hot, self._classes(event.x).softmax(1)\n"
            "        )"
        ),
        "hot",
    ),
    (
        "a known label is drawn anew",
        "return Event(torch.where(event.y.mask, event.y.value, drawn.double()))",
        "return Event(drawn.double())",
    ),
    (
        "candidates ignored",
        "return self._classes(x)[:, candidates.long()]",
        "return self._classes(x)",
    ),
    (
        "smoothing of the classes dropped",
        '(statistics["prior"] + self.smoothing).log()',
        'statistics["prior"].log()',
        JOINT_TESTS,
    ),
    (
        "classes drawn evenly",
        "categories(self.log_prior.expand(n, -1), generator)",
        "categories((0 * self.log_prior).expand(n, -1), generator)",
    ),
    (
        "a hidden label counts in the hybrid",
        "torch.where(event.y.mask, label, torch.zeros_like(label))",
        "label",
        HYBRID,
    ),
    (
        "evidence left out of log_joint",
        "joint = self.base.log_evidence(x)[:, None] + self.predictor",
        "joint = self.predictor",
        HYBRID,
    ),
    (
        "proposals not divided out",
        ("[:, 0] - torch.logaddexp(\n            gain, torch.zeros_like(gain)\n        )"),
        "[:, 0] + 0 * gain",
        HYBRID,
    ),
    (
        "draws of x without their label",
        "return Pair(Event(self.predictor.draw(x, generator)), x)",
        "return Pair(Event(self.predictor.draw(x, None)), x)",
        HYBRID,
    ),
    ("region of x lost", "within=after_one(pair.x.within))", "within=None)", JOINT_TESTS),
)

CORE = [
    *at(
        "core/random.py",
        TOYS,
        (
            "initialisation moves the global generator",
            "with torch.random.fork_rng():",
            "with contextlib.nullcontext():",
        ),
        (
            "codes drawn from the global generator",
            "uniform = torch.rand(logits.shape, generator=generator,",
            "uniform = torch.rand(logits.shape,",
            NAIVE,
        ),
        (
            "Gumbel noise has the wrong sign",
            "return (logits - torch.log(-torch.log(uniform",
            "return (logits + torch.log(-torch.log(uniform",
            NAIVE,
        ),
        (
            "streams ignore their name",
            "repr((int(seed), *names))",
            "repr(int(seed))",
            TRAINING_TESTS,
        ),
    ),
    *at(
        "core/",
        TOYS,
        (
            "weights ignored by the loss",
            "dtype=torch.float64) if weight is None else weight\n",
            "dtype=torch.float64)\n",
        ),
        (
            "loss divided by rows",
            "generator)).sum() / weight.sum()\n",
            "generator)).sum() / event.rows\n",
        ),
        (
            "candidates in the wrong order",
            "candidates.to(values).repeat(event.rows)",
            "candidates.to(values).repeat_interleave(event.rows)",
            CLASSES,
        ),
        (
            "missing cells not refused",
            '        self._require(declared, "log_prob with missing cells", "missing")\n',
            "",
        ),
        (
            "regions not refused by log_prob",
            (
                "        self._require(\n"
                "            not _confined(event) or self.capabilities.regions,\n"
                '            "cells known to lie in a range",\n'
                '            "regions",\n'
                "        )\n"
                "\n"
                "    "
            ),
            "        return\n\n    ",
            checks("quadratic"),
        ),
        (
            "context ignored by log_contexts",
            "torch.full((event.rows,), float(k)).double() for k in range(",
            "torch.full((event.rows,), 0.0).double() for k in range(",
            TOYS,
        ),
    ),
    *at(
        "core/",
        checks("quadratic and not joint"),
        (
            "values of missing cells seen",
            "value = torch.where(mask, event.value, torch.zeros_like(event.value))",
            "value = event.value",
        ),
        ("a code equal to the cardinality accepted", "(cells >= codes)", "(cells > codes)"),
        (
            "regions get lost with the rows",
            "self.map(lambda part: part[index])._replace(within=within)",
            "self.map(lambda part: part[index])._replace(within=None)",
            HYBRID,
        ),
        (
            "hidden cells shown",
            "observed = self.mask & ~cells",
            "observed = self.mask | ~cells",
            checks("circuit and targets"),
        ),
    ),
]

TRAINING = [
    *at(
        "training/learners.py",
        TRAINING_TESTS,
        ("memory that does not grow", "share**RATE_POWER * left", "share**RATE_POWER"),
        (
            "the first steps hardly move",
            "left = min(1.0, (1 - progress) / FALLING_SHARE)",
            "left = share * min(1.0, (1 - progress) / FALLING_SHARE)",
        ),
        (
            "old statistics take the weight of the new",
            "torch.lerp(self.running.get(key, value), value, rate)",
            "torch.lerp(value, self.running.get(key, value), rate)",
        ),
        ("batch not scaled to the data set", "pop(key) * (batch.total / mass)", "pop(key)"),
        (
            "objective per row instead of per weight",
            "/ mass\n        if not all",
            "/ batch.rows.rows\n        if not all",
        ),
        (
            "Adam's moments lost on resumption",
            'self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": slots})',
            "slots.clear()",
        ),
        (
            "running means forgotten",
            ("self.running = {\n            key.removeprefix("),
            "_ = {key.removeprefix(",
        ),
    ),
    *at(
        "training/loop.py",
        TRAINING_TESTS,
        ("learner not restored", 'self.learner.restore(parts["learner"])', "pass"),
        (
            "resumes from the best weights",
            'self.density.load_state_dict(parts["now"])',
            'self.density.load_state_dict(parts["best"])',
        ),
        (
            "best weights lost on resumption",
            'self.best = parts["best"]',
            "self.best = _copy(self.density)",
        ),
        ("the last weights instead of the best", "self.density.load_state_dict(self.best)", "pass"),
        (
            "no step of all rows",
            "self.by_parts and self.trained.stopped in",
            "self.begun is None and self.trained.stopped in",
        ),
        (
            "the step of all rows sees one batch",
            "for part in range(self.parts):",
            "for part in (0,):",
        ),
        (
            "the worst weights kept",
            "better = held < self.trained.best\n",
            "better = held > self.trained.best or not math.isfinite(self.trained.best)\n",
        ),
        (
            "batches weigh the same in the mean",
            "self.total + objective * mass\n        self.mass = self.mass + mass",
            "self.total + objective\n        self.mass = self.mass + 1",
        ),
        (
            "time counted the wrong way",
            "ranks.first(ends) > self.plan.max_time",
            "ranks.first(ends) < self.plan.max_time",
        ),
        (
            "patience off by one",
            "self.trained.epochs - since >= patience",
            "self.trained.epochs - since > patience",
        ),
        (
            "mini-batches given up before their steps get smaller",
            "since = max(self.trained.best_epoch, self.falling)",
            "since = self.trained.best_epoch",
        ),
        (
            "seed ignored by the steps",
            'stream(self.plan.seed, "step", self.trained.steps, *own)',
            'stream(self.plan.seed, "step", 0, *own)',
        ),
    ),
    *at(
        "training/feed.py",
        TRAINING_TESTS,
        (
            "weights of other rows",
            "self.weight[index], total)",
            "self.weight[: len(index)], total)",
        ),
        (
            "batches of every epoch alike",
            'torch.randperm(self.rows, generator=stream(self.seed, "epoch", epoch))',
            'torch.randperm(self.rows, generator=stream(self.seed, "epoch", 0))',
        ),
    ),
    *at(
        "codecs/table/rows.py",
        TRAINING_TESTS,
        (
            "missing cells equal to zeros",
            "frame.astype(dict.fromkeys(mixed, str))",
            "frame.fillna(0).astype(dict.fromkeys(mixed, str))",
        ),
    ),
    *at(
        "training/data.py",
        TRAINING_TESTS,
        (
            "weights of equal rows not added",
            "np.bincount(where, weights=mass, minlength=len(first))",
            "mass[first]",
        ),
        (
            "a missing label is a label",
            "distinct[:, 1 + width] > 0)",
            "distinct[:, 1 + width] >= 0)",
        ),
        ("share to choose misread", "(starts >= 1 - choose - 1e-9)", "(starts >= choose)"),
        (
            "a set of equal rows may overfill a part",
            "held = ends <= calibrate",
            "held = starts <= calibrate",
        ),
        (
            "copies of measured rows are looked for nowhere",
            "alone |= rows.repeat_by_chance() and not are_copies(counts)",
            "alone |= not are_copies(counts)",
            ("tests/test_copies.py",),
        ),
        (
            "repeats of a few patterns are held out together",
            "        alone |= rows.repeat_by_chance() and not are_copies(counts)\n",
            "        alone |= False\n",
        ),
        (
            "groups straddle the latest rows",
            "        held &= ~np.isin(hashes, hashes[~held])",
            "        # held &= ~np.isin(hashes, hashes[~held])",
        ),
        (
            "the earliest rows calibrate",
            "[len(hashes) - int(calibrate * len(hashes)) :]",
            "[: int(calibrate * len(hashes))]",
        ),
        ("rows of weight 0 kept", "keep = weight > 0", "keep = weight >= 0"),
    ),
]

KERNELS = at(
    "calibration/",
    ("tests/test_familiarity.py",),
    (
        "a centre may be a row",
        "MIN_CENTRE_ROWS = 2",
        "MIN_CENTRE_ROWS = 1",
    ),
    (
        "centres are as frequent as each other",
        "return mean, (share[settled] / share[settled].sum()).log()",
        "return mean, 0 * share[settled]",
    ),
    (
        "cells that are missing are as if known to kernels",
        "known = pattern[:columns][self.owner]",
        "known = torch.ones_like(pattern[:columns])[self.owner]",
    ),
    (
        "the best reading counts",
        "for own, among in pairs], 1).amin(1)",
        "for own, among in pairs], 1).amax(1)",
    ),
    (
        "all that is far has one rank",
        "return rank.log() + ((value - reference[0]) / tail).clamp(max=0.0)",
        "return rank.log()",
    ),
    (
        "every reading joins",
        "return float(loss.mean()) > max(most, STANDARD_ERRORS * error)",
        "return False",
    ),
    (
        "pseudo-strangers are moved to no value of the column",
        "value[:, d] = _nearest(value[:, d], rows.value[_known(rows, d), d].unique())",
        "pass",
    ),
)


MUTATIONS = [*OUTLINE, *KERNELS, *GAPS, *INTERVALS, *LEAVES, *FAMILIES, *JOINTS, *CORE, *TRAINING]
