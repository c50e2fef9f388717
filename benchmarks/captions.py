"""Pictures and words: one joint model of scenes and captions, judged by an exact judge.

    python benchmarks/captions.py [--rows 20000] [--seconds 1500] [--prompts 500] [--save FOLDER]
    python benchmarks/captions.py --side 64 --pictures latent_diffusion
    python benchmarks/captions.py --model FOLDER [--candidates 8] [--guidance 0.5]

A model of a table of pictures and captions alone (``conjoin.datasets.draw_scenes``, 32 x 32) is
fitted, or taken from a folder. *drawn*: pictures for prompts whose pairs of colour and shape the
fit has seen, and for prompts with pairs that it has not, read by ``judge_scene``. *told*: captions
of real pictures, true where the judge finds all of them in the picture. Every figure stands between
a ceiling (real pictures with their captions) and a floor (the same captions, shuffled). *agrees*:
the model's caption of its own drawing is the prompt, or true of the real picture of the prompt, as
either of two things may be named first. *inpainted*: the left half of a scene of two things side by
side covered, the caption known. *changed*: the prompt with one colour changed, drawn from the same
noise: whether the new colour is there, whether all other slots hold, and how many pixels stay.
*unfamiliar*: what ``decide`` says of other pictures with captions of scenes, and of X-rays, digits
and emoji that are asked for one, at 5 % false alarms. *false alarms*: at 5 %, over 100 re-splits.
``--candidates``: pictures that are drawn for each prompt, of which one is kept in proportion to how
probable the prompt is given it, as ``sample(candidates=...)`` does; ``--guidance``: by how much
what prompts say is exaggerated. Seconds are of the CPU.
"""

import argparse
import re
import time
import warnings
from functools import partial

import numpy as np
import pandas as pd
from PIL import Image

from conjoin import JointDensity, load
from conjoin.codecs.image.pictures import pictures_in, stacked
from conjoin.core.sampling import Walk, walking
from conjoin.datasets import draw_scenes, load_images
from conjoin.datasets.scenes import COLOURS, judge_scene
from conjoin.families.multimodal import Multimodal

PICTURE, CAPTION = "picture", "caption"
PATTERNS = ("one", "relation", "several", "row")
KEPT = ("background", "count", "shapes", "size")  # slots beside the colour that is changed
BINS = 10  # of the calibration error


def table(pictures, captions):
    """A frame of both; None where one is not known."""
    cells = {PICTURE: pd.Series(list(pictures), dtype=object)} if pictures is not None else {}
    frame = pd.DataFrame(cells, index=range(len(captions if pictures is None else pictures)))
    if pictures is None:
        frame[PICTURE] = None
    frame[CAPTION] = pd.Series(captions, dtype=object) if captions is not None else None
    return frame


def fitted(draw, rows, seconds, seed, pictures):
    """The joint model, and the CPU seconds of its fit."""
    scenes = draw(rows, seed=seed)
    start = time.process_time()
    family = Multimodal(pictures=None if pictures is None else {"family": pictures})
    model = JointDensity(family=family, max_time=seconds, random_state=seed)
    model.fit(table(scenes.pictures, scenes.captions))
    return model, time.process_time() - start


def judged(pictures, scenes):
    """The share of pictures in which each slot is right, and all are, by pattern."""
    tally = {}
    for picture, scene in zip(pictures, scenes, strict=True):
        verdict = judge_scene(picture, scene)
        for slot, right in verdict.items():
            tally.setdefault(slot, []).append(right)
        tally.setdefault(f"all {scene.pattern}", []).append(verdict["all"])
    return {slot: float(np.mean(right)) for slot, right in tally.items()}


def drawn(model, prompts):
    """A picture for each prompt."""
    found = model.impute(table(None, prompts), n_draws=1, random_state=0)[0]
    return stacked(pictures_in(found[PICTURE]))


def told(model, pictures):
    """The most probable caption of each picture, token by token."""
    return model.impute(table(pictures, None))[CAPTION].tolist()


def shuffled(scenes, seed=0):
    """The same scenes in another order."""
    return [scenes[place] for place in np.random.default_rng(seed).permutation(len(scenes))]


def exactly(captions, scenes):
    """The share of captions that are right to the letter, in all and by pattern."""
    right = [c == scene.caption for c, scene in zip(captions, scenes, strict=True)]
    return by_pattern(right, scenes, "to the letter")


def truly(captions, pictures, scenes):
    """The share of captions that the judge finds true of a picture: of two things either may be
    named first, so that half of the true captions are not the caption to the letter."""
    right = [holds(*each) for each in zip(captions, pictures, strict=True)]
    return by_pattern(right, scenes, "true")


def holds(caption, picture):
    """Whether a caption is true of a picture; one that is no caption of scenes is not."""
    try:
        return judge_scene(picture, caption)["all"]
    except ValueError:
        return False


def by_pattern(right, scenes, word):
    right = np.array(right)
    kind = np.array([scene.pattern for scene in scenes])
    by = {f"{word} {each}": float(right[kind == each].mean()) for each in PATTERNS if each in kind}
    return {word: float(right.mean())} | by


def calibration_error(model, pictures, captions):
    """The mean gap between the probability of the caption that is told first and how often it is
    right to the letter (M. Naeini, G. Cooper and M. Hauskrecht (2015), Obtaining well calibrated
    probabilities using Bayesian binning)."""
    found = model.alternatives(table(pictures, None), count=1)
    share = found["probability"].to_numpy(float)
    right = found[CAPTION].to_numpy() == np.array(captions)
    place = np.minimum((share * BINS).astype(int), BINS - 1)
    gaps = [abs(share[place == b].sum() - right[place == b].sum()) for b in range(BINS)]
    return float(sum(gaps) / len(share))


def line(name, found, ceiling=None, floor=None):
    """One line of the table: figure, ceiling, floor."""
    for slot, value in found.items():
        beside = [f"{each[slot]:5.2f}" for each in (ceiling, floor) if each and slot in each]
        print(f"{name:28s} {slot:14s} {value:5.2f}   {'  '.join(beside)}", flush=True)


def both_ways(model, name, test):
    """Pictures of the prompts, captions of the pictures, and captions of what was drawn."""
    start = time.process_time()
    pictures = drawn(model, test.captions)
    seconds = (time.process_time() - start) / len(pictures)
    real = judged(test.pictures, test.scenes)
    floor = judged(test.pictures, shuffled(test.scenes))
    line(f"drawn, {name}", judged(pictures, test.scenes), real, floor)
    print(f"{'':28s} {1000 * seconds:.0f} ms of CPU a picture")
    answers = told(model, test.pictures)
    mixed = [scene.caption for scene in shuffled(test.scenes)]
    line(
        f"told, {name}",
        truly(answers, test.pictures, test.scenes),
        truly(test.captions, test.pictures, test.scenes),
        truly(mixed, test.pictures, test.scenes),
    )
    floor = exactly(mixed, test.scenes)
    line(f"told, {name}", exactly(answers, test.scenes), None, floor)
    again = told(model, pictures)
    line(f"agrees, {name}", exactly(again, test.scenes), None, floor)
    line(f"agrees, {name}", truly(again, test.pictures, test.scenes))


def inpainted(model, draw, n):
    """Scenes of two things side by side, the left half covered."""
    every = draw(20 * n, seed=79, patterns=["relation"])
    some = [place for place, s in enumerate(every.scenes) if s.how in ("left of", "right of")][:n]
    scenes = [every.scenes[place] for place in some]
    half = every.pictures.shape[1] // 2
    covered = every.pictures[some].astype(float)
    covered[:, :, :half] = np.nan
    asked = table(covered, [scene.caption for scene in scenes])
    found = stacked(pictures_in(model.impute(asked, n_draws=1, random_state=0)[0][PICTURE]))
    kept = np.array_equal(found[:, :, half:], covered[:, :, half:])
    line("inpainted, caption known", judged(found, scenes))
    print(f"{'':28s} known pixels are {'untouched' if kept else 'CHANGED'}")


def changed(model, draw, n):
    """One colour of a prompt changed, drawn from the same noise: whether the new colour is there,
    the other slots hold, all do, and which share of all pixels stays."""
    test = draw(n, seed=80, patterns=["one", "several"])
    rng = np.random.default_rng(0)
    new = []
    for caption in test.captions:
        old = re.search("|".join(COLOURS), caption).group()
        other = rng.choice([each for each in COLOURS if each != old])
        new.append(caption.replace(old, other))
    before, after = drawn(model, test.captions), drawn(model, new)
    verdicts = [judge_scene(picture, prompt) for picture, prompt in zip(after, new, strict=True)]
    line(
        "changed",
        {
            "new colour": float(np.mean([each["colours"] for each in verdicts])),
            "others": float(np.mean([_others(each) for each in verdicts])),
            "all": float(np.mean([each["all"] for each in verdicts])),
            "pixels kept": float((np.abs(before.astype(int) - after).max(-1) < 40).mean()),
        },
    )


def _others(verdict):
    """Whether all slots but the colours hold."""
    return all(right for slot, right in verdict.items() if slot in KEPT)


def alarms(model, draw, n):
    """Shares that ``decide`` calls unfamiliar."""
    test = draw(n, seed=81)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, test.pictures.shape, dtype=np.uint8)
    flat = np.broadcast_to(rng.integers(0, 256, (n, 1, 1, 3), dtype=np.uint8), noise.shape)
    side = noise.shape[1]
    stripes = np.where((np.arange(side) // 4 % 2 == 0)[:, None, None], flat, 255 - flat)
    kinds = {
        "real scenes": (test.pictures, test.captions),
        "real, no caption": (test.pictures, None),
        "noise": (noise, test.captions),
        "stripes": (stripes, test.captions),
        "negatives": (255 - test.pictures, test.captions),
        "unknown words": (test.pictures, [c.replace("a ", "my ", 1) for c in test.captions]),
    }
    found = {}
    kinds |= {f"{name}, no caption": (each, None) for name, each in foreign(n, side)}
    for name, (pictures, captions) in kinds.items():
        verdict = model.decide(table(pictures, captions), false_alarm=0.05)["verdict"]
        found[name] = float((verdict == "unfamiliar").mean())
    line("unfamiliar", found)


def false_alarms(model, draw, n):
    """Of new scenes, with captions and without: one half judged by the other at 5 %, 100 times."""
    test = draw(n, seed=82)
    found = {}
    for name, captions in (("both", test.captions), ("without captions", None)):
        familiarity = model.decide(table(test.pictures, captions))["familiarity"].to_numpy()
        rng = np.random.default_rng(0)
        halves = [np.split(rng.permutation(familiarity), 2) for _ in range(100)]
        ranks = [np.searchsorted(np.sort(kept), new, side="right") for kept, new in halves]
        found[name] = float(np.mean([(1 + rank) / (n // 2 + 1) <= 0.05 for rank in ranks]))
    line("false alarms", found)


def foreign(n, side):
    """Pictures of other kinds, in colour and of this size, where they are at hand."""
    for name in ("pneumoniamnist", "mnist", "emoji"):
        try:
            pictures = load_images(name).x_test[:n]
        except ValueError as error:
            print(f"left out: {error}")
            continue
        pictures = pictures[..., None] if pictures.ndim == 3 else pictures
        each = [np.asarray(Image.fromarray(x.squeeze()).resize((side, side))) for x in pictures]
        found = np.stack(each)
        yield name, found if found.ndim == 4 else np.repeat(found[..., None], 3, 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=1500.0)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--model", default=None)
    parser.add_argument("--save", default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=32, help="pixels a side")
    parser.add_argument("--pictures", default=None, help="family of the pictures")
    parser.add_argument("--guidance", type=float, default=None, help="of the pictures")
    parser.add_argument("--candidates", type=int, default=None, help="pictures for each prompt")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    draw = partial(draw_scenes, side=asked.side)
    if asked.model is None:
        model, seconds = fitted(draw, asked.rows, asked.seconds, asked.seed, asked.pictures)
        print(f"{asked.rows:,} scenes, {seconds / 60:.1f} CPU minutes", flush=True)
        if asked.save is not None:
            model.save(asked.save)
    else:
        model = load(asked.model)
    print(f"{'':43s} found  ceiling, floor")
    with walking(Walk(guidance=asked.guidance, candidates=asked.candidates)):
        measure(model, draw, asked)


def measure(model, draw, asked):
    """All figures."""
    seen = draw(asked.prompts, seed=77)
    both_ways(model, "seen pairs", seen)
    both_ways(model, "held out", draw(asked.prompts, seed=78, only_held_out=True))
    error = calibration_error(model, seen.pictures, seen.captions)
    print(f"calibration error of the caption told, real pictures: {error:.3f}")
    inpainted(model, draw, asked.prompts // 5)
    changed(model, draw, asked.prompts // 5)
    alarms(model, draw, asked.prompts // 2)
    false_alarms(model, draw, 4 * asked.prompts)


if __name__ == "__main__":
    main()
