"""Planted bugs of learning, comparing, images, the deep families' companion and the heads of
networks.
"""

from mutations_base import at, checks

LEARNING = ("tests/test_learning.py",)
TRAINING = ("tests/test_training.py", "-k", "not killed")
MUTATIONS = [
    *at(
        "training/loop.py",
        TRAINING,
        (
            "sums of the round forgotten on resumption",
            "self.trained, (self.total, self.mass) = found",
            "self.trained, _ = found",
        ),
        ("the last weights judged, not their mean", "with self.learner.averaged():", "if True:"),
        (
            "goes back without smaller steps",
            "            self.learner.shrink()\n",
            "            pass\n",
        ),
        (
            "counts setbacks without end",
            "if self.trained.setbacks > MAX_SETBACKS:",
            "if self.trained.setbacks > 10 * MAX_SETBACKS:",
        ),
        ("explosions pass", "and objective < best + MAX_LOSS_RATIO * max(1.0, abs(best))", ""),
        (
            "a finished fit goes on after a resumption",
            "            self.trained.stopped = self._enough()\n\n\ndef",
            "            pass\n\n\ndef",
        ),
        (
            "energy counted the wrong way",
            (
                "ranks.first(self.meter.energy.kwh) > (\n"
                "            self.plan.max_kwh or 0.0\n"
                "        )"
            ),
            "ranks.first(self.meter.energy.kwh) < (self.plan.max_kwh or 0.0)",
        ),
    ),
    *at(
        "util/files.py",
        ("tests/test_files.py",),
        ("half a file is left", "        path.unlink()\n", "        pass\n"),
        (
            "half a folder is left",
            "        shutil.rmtree(path, ignore_errors=True)\n",
            "        pass\n",
        ),
        ("the old folder never comes back", "            old.rename(path)\n", "            pass\n"),
        (
            "the old folder goes before the new one is whole",
            "    draft.mkdir()\n",
            "    draft.mkdir()\n    shutil.rmtree(path, ignore_errors=True)\n",
        ),
        (
            "a folder goes before the new one stands there",
            "    if not (path.exists() and _exchange(draft, path)):\n",
            "    if path.exists():\n",
        ),
        (
            "what dead writers left stays",
            "    except ProcessLookupError:\n        return True",
            "    except ProcessLookupError:\n        return False",
        ),
        (
            "the file itself is the draft",
            (
                "        yield draft\n        _tell({draft: path}, path, None)\n"
                "        _force(draft)\n"
            ),
            (
                "        draft = path\n        yield draft\n"
                "        _tell({draft: path}, path, None)\n        _force(draft)\n"
            ),
        ),
    ),
    *at(
        "nets/inputs.py",
        ("tests/test_many_levels.py",),
        ("many levels are a number", "if embedded and _is_embedded(v)", "if False"),
        ("every network has tables", "if embedded and _is_embedded(v)", "if _is_embedded(v)"),
        (
            "ordered levels have tables",
            'variable.kind == "category" and ',
            "variable.discrete and ",
        ),
    ),
    *at(
        "training/checkpoint.py",
        TRAINING,
        (
            "a full disk ends the fit",
            "    except OSError as error:\n",
            "    except ZeroDivisionError as error:\n",
        ),
        ("any checkpoint is gone on from", "        if now != value:\n", "        if False:\n"),
        ("counters not saved", "json.dumps(asdict(trained))", "json.dumps(asdict(Trained()))"),
        (
            "sums not saved",
            "torch.tensor(sums, dtype=torch.float64)",
            "torch.zeros(2, dtype=torch.float64)",
        ),
    ),
    *at(
        "training/learners.py",
        TRAINING,
        (
            "the running mean has no memory",
            "kept.lerp_(now, 1 - memory if self._learns(pace, progress) else 1.0)",
            "kept.copy_(now)",
        ),
        (
            "the mean is lost on resumption",
            'state[f"mean.{index}"].to(parameter.device, copy=True)',
            "self.mean[index]",
        ),
        ("no warm-up", "return max(warm, 0.02) * left", "return left"),
        ("the rate does not fall", "0.5 * (1 + math.cos(math.pi * done))", "1.0"),
        (
            "the factor is lost on resumption",
            'self.factor = float(state["factor"])',
            "self.factor = 1.0",
        ),
    ),
    *at(
        "joints/",
        LEARNING,
        (
            "emphasis counts unlabelled rows",
            ("torch.where(\n        y.mask, -log_joint.log_softmax(1).gather"),
            "torch.where(y.mask | True, -log_joint.log_softmax(1).gather",
        ),
        (
            "emphasis of x instead of y",
            "return out + self.emphasis * _label_loss(-each, event.y)",
            "return out + self.emphasis * out",
        ),
        (
            "prior of an independent joint ignored",
            "self.log_prior.log_softmax(0)[y.value.long()], 0.0)",
            "0.0, 0.0)",
        ),
    ),
    *at(
        "questions/compare.py",
        LEARNING,
        ("energies are ranked", "if status is not Status.RELATIVE:", "if True:"),
        (
            "the worst is picked",
            ("key=lambda entry: -entry.joint\n    )"),
            "key=lambda entry: entry.joint)",
        ),
        ("no end of the budget", "if left < MIN_SECONDS or", "if left < -1e9 or"),
        ("the label is left out", "each = log_prob + label", "each = log_prob + 0 * label"),
    ),
    *at(
        "codecs/image/codec.py",
        ("tests/test_images.py",),
        (
            "columns before rows",
            "np.moveaxis(images, 3, 1) if self.channels_last else images[:, None]",
            "(np.moveaxis(images, 3, 1) if self.channels_last else images[:, None]).swapaxes(2, 3)",
        ),
        (
            "levels follow the data",
            "    if dtype == np.uint8:\n        return PIXEL_LEVELS, []\n",
            "",
        ),
        (
            "missing pixels are zeros",
            "known = ~np.isnan(images)",
            "known = np.ones_like(images, dtype=bool)",
        ),
        ("any number is a pixel", "(images != np.rint(images)) | ", ""),
    ),
    *at(
        "families/deep.py",
        checks(
            "autoregressive and mixed and not joint and not hybrid and (missing_cells or regions "
            "or conditionals or batches)"
        ),
        (
            "weights without the proposal",
            (
                "self._in_chunks(value, codes, generator) - self.companion.log_prob(\n"
                "            self._known(Event(value), codes)\n"
                "        )"
            ),
            "self._in_chunks(value, codes, generator)",
        ),
        ("the mean weight is a sum", "logsumexp(1) - math.log(self.config.draws)", "logsumexp(1)"),
        (
            "draws ignore their weights",
            "chosen = categorical(weight.reshape(event.rows, -1), generator)",
            "chosen = torch.zeros(event.rows, dtype=torch.long)",
        ),
        (
            "completions overwrite known cells",
            "return torch.where(event.mask[:, None], event.value[:, None], drawn)",
            "return drawn",
        ),
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
        (
            "density without its scale",
            "logsigmoid(z) + logsigmoid(-z) - scale.log()",
            "logsigmoid(z) + logsigmoid(-z)",
        ),
        (
            "first cell ends at its edge",
            "torch.where(first, 0.0, logsigmoid(-low))",
            "logsigmoid(-low)",
            ("tests/test_autoregressive.py", "-k", "wherever"),
        ),
        (
            "mass outside the bounds",
            "continuous = continuous.masked_fill(outside, -math.inf)",
            "pass",
        ),
        (
            "impossible levels",
            "return logits.masked_fill(~self.legal[place], -math.inf)",
            "return logits",
        ),
        (
            "draws of another component",
            "scale.gather(1, chosen)[:, 0] * torch.logit(uniform)",
            "torch.logit(uniform)",
        ),
        (
            "atoms never drawn",
            ("part < self.atoms.shape[1],\n            torch"),
            "part < 0, torch",
        ),
    ),
]
