"""Planted bugs of the diffusion of pictures, of the joint on its trunk, and of what is typical."""

from mutations_base import at

FILE = "tests/test_picture_diffusion.py"
BOUND = (FILE, "-k", "bound")
GAUSSIAN = ("tests/test_wiener.py",)
WALKS = (FILE, "-k", "walk or levels")
PALETTE = ("tests/test_palette.py", "-m", "not slow")
TOKENS = ("tests/test_picture_tokens.py", "-m", "not slow")
SURPRISE = ("tests/test_surprise.py",)
CASCADE = ("tests/test_picture_stages.py", "-k", "share_of_the_rows")
NET = (FILE, "-k", "network_gives or batch or hears")
STUDENT = ("tests/test_distilling.py", "-m", "not slow")
JOINT = (FILE, "-k", "one_network or painted or saved")
TYPICAL = (FILE, "-k", "typicality or never_seen")
ALTER = (FILE, "-k", "counterfactual")
CHOICE = (FILE, "-k", "chosen_counterfactual or candidates_of or no_candidates")

IN_PART = (
    "tests/test_captions.py",
    "-k",
    "in_part or what_a_part or other_channels or cant_be_read or not_learned",
)

MUTATIONS = [
    *at(
        "families/multimodal.py",
        IN_PART,
        (
            "parts not looked at",
            "rows = (pixels.any(1) & ~(event.mask | pixels).all(1))",
            "rows = (pixels.any(1) & (event.mask | pixels).all(1))",
        ),
    ),
    *at(
        "codecs/block_columns.py",
        IN_PART,
        (
            "a part taken as whole",
            "True if picture.known is None else _channels_first(picture.known)",
            "True",
        ),
        (
            "parts learned from",
            "found = in_part(pictures).nonzero()[0]",
            "found = in_part(pictures).nonzero()[0][:0]",
        ),
        ("any channel makes known", "else (~known).any(2)", "else (~known).all(2)"),
        ("unread captions passed over", "unseen.any(1).nonzero()", "unseen.all(1).nonzero()"),
    ),
    *at(
        "codecs/composite.py",
        IN_PART,
        ("parts stay open", "frame[block.name].where(~begun, None)", "frame[block.name]"),
    ),
    *at(
        "nets/unet.py",
        NET,
        (
            "padding not cut off",
            "out[..., : self.sides[0], : self.sides[1]].float()",
            "out.float()",
        ),
    ),
    *at(
        "components/palette.py",
        PALETTE,
        (
            "colours as often as they are few",
            "self.log_share.to(x) + 0.5",
            "0 * self.log_share.to(x) + 0.5",
        ),
        (
            "the spread of a colour forgotten",
            "noise_variance.to(x)[:, None] + self.variance.to(x)",
            "noise_variance.to(x)[:, None] + 0 * self.variance.to(x) + 1e-9",
        ),
        ("what is seen of a pixel forgotten", "colour + (1 - share) * z.to(log_weight)", "colour"),
        ("colours that are left over chosen", "LOG_NO_SHARE = -1e30", "LOG_NO_SHARE = -1e4"),
        (
            "answers move the running losses",
            "if not self.training:\n            return nats",
            "if False:\n            return nats",
        ),
        (
            "pixels known in part count",
            "known = mask.all(1).flatten(1)",
            "known = mask.any(1).flatten(1)",
        ),
        ("rows without a whole pixel count", "some = count > 0", "some = count >= 0"),
        (
            "the choice teaches nothing",
            "right = self._own(x, torch.zeros_like(s)).softmax(-1)",
            "right = 0 * self._own(x, torch.zeros_like(s))",
        ),
    ),
    *at(
        "nets/picture_codes.py",
        TOKENS,
        (
            "channels that are not known count",
            "own.masked_fill(~mask[:, c], 0.0)",
            "own",
        ),
        (
            "the code of a known patch is no more than another",
            "torch.where(whole, out.amax(2, keepdim=True), out.gather(2, code))",
            "out.gather(2, code)",
        ),
    ),
    *at(
        "families/autoregressive/picture_tokens.py",
        TOKENS,
        (
            "strings of codes may end early",
            "before = before.masked_fill(end, -torch.inf)",
            "before = before + 0.0",
        ),
        (
            "guidance takes what is not told away once too often",
            "more = state.strength * (log_p - log_base)",
            "more = state.strength * log_p - (1 + state.strength) * log_base",
            (TOKENS[0], "-k", "guidance_exaggerates"),
        ),
    ),
    *at(
        "nets/surprise.py",
        SURPRISE,
        (
            "the gradient of a pixel forgets what is known of it",
            ".sub_(given.sub_(right[:, None]).exp_())",
            "",
        ),
        (
            "channels that are not known count",
            "given += own if whole else own.masked_fill_(~known[some, channel, None], 0.0)",
            "given += own",
        ),
    ),
    *at(
        "families/diffusion/cascade.py",
        CASCADE,
        (
            "fewer rows of the second stage count less",
            "second * (event.rows / max(1, len(some)))",
            "second",
        ),
    ),
    *at(
        "training/loop.py",
        TOKENS,
        (
            "a fit may end before its last part has begun",
            "if self._stage() < self.learner.stage(1.0):",
            "if False:",
        ),
    ),
    *at(
        "nets/conditioned.py",
        NET,
        ("features by the mean alone", "(h.mean(1), h.amax(1))", "(h.mean(1),)"),
        ("a class that is told not heard", "none if code is None else code.long()", "none"),
        (
            "the noise not heard",
            "torch.cat([angle.sin(), angle.cos()], 1)",
            "torch.cat([0 * angle, 0 * angle], 1)",
        ),
    ),
    *at(
        "nets/patches.py",
        NET,
        (
            "patches padded and not cut",
            "out[..., : self.sides[0], : self.sides[1]].float()",
            "out.float()",
        ),
        (
            "tokens that do not attend",
            "h = h + first.chunk(3, 2)[2] * self._attend(",
            "h = h + 0 * self._attend(",
        ),
    ),
    *at(
        "families/diffusion/student.py",
        STUDENT,
        ("draws not kept apart", "- among.mean(0)", "- 0 * among.mean(0)"),
        ("classes not told apart", "0.5 * CLASS_DISTANCE**2", "0.0 * CLASS_DISTANCE**2"),
        (
            "one call too many",
            "levels(self.calls + 1)[: self.calls]",
            "levels(self.calls + 2)[: self.calls + 1]",
        ),
    ),
    *at(
        "families/diffusion/picture.py",
        STUDENT,
        (
            "the network draws and not its student",
            "if self.student is not None and sampler is None",
            "if False and sampler is None",
        ),
        ("all is learned anew", "self.requires_grad_(False)", "self.requires_grad_(True)"),
    ),
    *at(
        "families/diffusion/denoiser.py",
        BOUND,
        (
            "the picture not kept at small noise",
            "z / total**2 + s / total",
            "z / total + s / total",
        ),
        (
            "scale not that of the data",
            "self.scale.copy_((pictures - self.centre)",
            "self.scale.copy_(0.5 * (pictures - self.centre)",
            WALKS,
        ),
        (
            "the class never told",
            ("< WITHHELD_SHARE, float(self.classes), code\n        )"),
            "< 2.0, float(self.classes), code)",
            JOINT,
        ),
    ),
    *at(
        "families/diffusion/denoiser.py",
        WALKS,
        (
            "few levels under half a step",
            "min(0.5, self.last_noise * float(self.scale))",
            "0.5",
        ),
    ),
    *at(
        "families/diffusion/denoiser.py",
        GAUSSIAN,
        ("the loss not over the error", ".clamp_min(1) / self._out(s)", ".clamp_min(1)"),
        (
            "the class kept from the Gaussian",
            "self.gaussian.estimate(z, s, code)",
            "self.gaussian.estimate(z, s, None)",
        ),
    ),
    *at(
        "families/diffusion/wiener.py",
        GAUSSIAN,
        ("other directions not shrunk", "out = mean + rest * apart", "out = mean + apart"),
        ("a mean of zero", "out = mean + rest", "out = rest"),
        ("error not of a pixel", "others * rest) / len(self.mean)", "others * rest)"),
        ("as many axes as there is room", "rows // ROWS_PER_AXIS", "rows"),
        ("variances not of a row", "top / rows, vectors", "top, vectors"),
        ("directions of rows", "apart.T @ vectors / top.sqrt()", "apart.T @ vectors / top"),
        ("classes without a mean", "self.offsets[each] = own", "self.offsets[each] = 0 * own"),
    ),
    *at(
        "families/diffusion/picture.py",
        BOUND,
        ("prior forgotten", "- prior - integral", "- integral"),
        (
            "integral over half the noises",
            "total * (math.log(MAX_NOISE / self.core.least)",
            "total * (0.5 * math.log(MAX_NOISE / self.core.least)",
        ),
        ("errors not over the noise", "float(s) ** 2", "float(s)"),
        ("levels never normalised", "] - log_weight.logsumexp(2)).sum(1)", "]).sum(1)"),
        (
            "known pixels painted over",
            "return torch.where(event.mask, event.value, filled)",
            "return filled",
            JOINT,
        ),
    ),
    *at(
        "families/diffusion/painter.py",
        WALKS,
        ("noise of the ancestral walk left out", "+ up * self.noise(z)", ""),
        (
            "a step that keeps the noise",
            "return ratio * z + (1 - ratio) * ahead",
            "return z + (1 - ratio) * ahead",
        ),
        ("schedule upside down", "(ends[1] - ends[0])) ** RHO", "(ends[0] - ends[1])) ** RHO"),
        (
            "guidance the wrong way",
            "self.guidance * (told - self.core",
            "-self.guidance * (told - self.core",
            ALTER,
        ),
    ),
    *at(
        "components/typicality.py",
        TYPICAL,
        ("the best reading counts", (", 1\n        ).amin(1)"), ", 1).amax(1)"),
        (
            "not whitened",
            "torch.linalg.inv(torch.linalg.cholesky(spread)).T",
            "torch.eye(len(spread), dtype=torch.float64)",
        ),
        ("larger is stranger", "return -((along - self.mean)", "return ((along - self.mean)"),
    ),
    *at(
        "joints/shared_backbone.py",
        JOINT,
        (
            "draws not told the class",
            "self.density.sample(n, y, generator=generator)",
            "self.density.sample(n, generator=generator)",
        ),
        (
            "labels teach nothing",
            ("torch.where(\n            known, weight * label, 0.0\n        )"),
            "torch.where(known, 0 * label, 0.0)",
        ),
    ),
    *at(
        "questions/edit.py",
        CHOICE,
        ("familiarity not asked for", "usual = familiar > least", "usual = familiar > -1"),
        ("confidence not asked for", "(steady >= confidence)", "(steady >= 0)"),
        ("led the wrong way", "return self.step * (1 -", "return -self.step * (1 -", ALTER),
        ("the rest is touched", "found.append(x + soft * (whole - x))", "found.append(whole)"),
        ("altered for the answer it has", "np.flatnonzero(~already)", "np.arange(len(x))"),
        (
            "share of any change",
            "(value - x[:, None]).abs() > _tenth(model)",
            "(value - x[:, None]).abs() > 0",
        ),
    ),
]
