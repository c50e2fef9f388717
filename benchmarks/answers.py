"""Whether a model of texts knows when it is right: the world of ``bios`` and a language model.

    python benchmarks/answers.py bios
    python benchmarks/answers.py language FOLDER [--count 550]

``bios`` fits a small model of one's own; ``language`` asks a pretrained one, in a local folder,
questions that are drawn here: sums, capitals, opposites, plurals, colours, days and months, and
some about invented people, which no one can answer. Half of the questions calibrate, the other half
are asked.
"""

import argparse
import time

import numpy as np

from conjoin import JointDensity
from conjoin.calibration.answer_score import auroc
from conjoin.datasets import bios
from conjoin.datasets.biographies import MONTHS
from conjoin.estimators import from_pretrained
from conjoin.families.autoregressive.sequence import Sequence
from conjoin.questions.answers.asking import ask, learned, settings_of
from conjoin.questions.answers.meaning import Meaning

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid",
    "Portugal": "Lisbon", "Austria": "Vienna", "Greece": "Athens", "Poland": "Warsaw",
    "Hungary": "Budapest",
    "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen",
    "Ireland": "Dublin", "Belgium": "Brussels", "Russia": "Moscow", "Turkey": "Ankara",
    "Egypt": "Cairo", "Kenya": "Nairobi", "Morocco": "Rabat", "Japan": "Tokyo", "China": "Beijing",
    "India": "New Delhi", "Thailand": "Bangkok", "Vietnam": "Hanoi", "Indonesia": "Jakarta",
    "South Korea": "Seoul", "Iran": "Tehran", "Iraq": "Baghdad", "Canada": "Ottawa",
    "Mexico": "Mexico City", "Cuba": "Havana", "Peru": "Lima", "Chile": "Santiago",
    "Argentina": "Buenos Aires", "Colombia": "Bogota", "Australia": "Canberra",
    "New Zealand": "Wellington", "Romania": "Bucharest", "Bulgaria": "Sofia",
    "Croatia": "Zagreb", "Serbia": "Belgrade", "Ukraine": "Kyiv", "Mongolia": "Ulaanbaatar",
    "Nepal": "Kathmandu",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "tall": "short", "up": "down", "left": "right", "day": "night",
    "black": "white", "open": "closed", "rich": "poor", "old": "young", "happy": "sad",
    "fast": "slow", "hard": "soft", "heavy": "light", "wet": "dry", "full": "empty",
    "early": "late", "inside": "outside", "strong": "weak", "loud": "quiet", "clean": "dirty",
    "deep": "shallow", "wide": "narrow", "thick": "thin", "true": "false", "win": "lose",
    "buy": "sell", "begin": "end", "love": "hate", "always": "never", "first": "last",
    "high": "low", "near": "far", "safe": "dangerous", "easy": "difficult", "sweet": "sour",
    "push": "pull", "alive": "dead", "cheap": "expensive", "ancient": "modern",
}  # fmt: skip
PLURALS = {
    "mouse": "mice", "child": "children", "foot": "feet", "tooth": "teeth", "goose": "geese",
    "man": "men", "woman": "women", "leaf": "leaves", "knife": "knives", "wolf": "wolves",
    "life": "lives", "city": "cities", "baby": "babies", "box": "boxes", "bus": "buses",
    "dog": "dogs", "house": "houses", "potato": "potatoes", "hero": "heroes", "ox": "oxen",
    "person": "people", "cactus": "cacti", "sheep": "sheep", "fish": "fish", "half": "halves",
    "berry": "berries", "church": "churches", "wife": "wives", "loaf": "loaves", "story": "stories",
    "piano": "pianos", "crisis": "crises", "louse": "lice", "shelf": "shelves", "fox": "foxes",
}  # fmt: skip
COLOURS = {
    "a ripe banana": "yellow", "fresh grass": "green", "the clear sky at noon": "blue",
    "fresh snow": "white", "coal": "black", "blood": "red", "a ripe tomato": "red",
    "a carrot": "orange", "milk": "white", "a lemon": "yellow", "an emerald": "green",
    "a ruby": "red", "a sapphire": "blue", "a polar bear": "white", "a raven": "black",
    "chocolate": "brown", "a flamingo": "pink", "the sun in drawings": "yellow", "spinach": "green",
    "a fire engine": "red", "an aubergine": "purple", "a pumpkin": "orange", "ash": "grey",
}  # fmt: skip
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
PHRASINGS = {
    "capital": ("What is the capital of {}?", "Which city is the capital of {}?"),
    "opposite": ('What is the opposite of "{}"?', 'Which word means the opposite of "{}"?'),
    "plural": ('What is the plural of "{}"?', 'How do you write the plural of "{}"?'),
    "colour": ("What color is {}?", "Which color does {} have?"),
    "sum": ("What is {}?", "How much is {}?", "Calculate {}."),
}
UNKNOWABLE = (
    "In which city was {} born?", "What is the name of {}'s dog?", "How old is {}?",
    "What did {} eat for breakfast this morning?", "What is the phone number of {}?",
    "Which color is {}'s bicycle?", "How many sisters does {} have?", "Where does {} work?",
    "What is the favorite song of {}?", "Who is married to {}?",
    "In which year did {} finish school?", "What is the middle name of {}?",
)  # fmt: skip
SHARES = {
    "sum": 0.28, "capital": 0.13, "opposite": 0.12, "plural": 0.11, "colour": 0.07, "next": 0.09,
    "unknowable": 0.2,
}  # fmt: skip
SYLLABLES = [
    "bra",
    "dro",
    "fel",
    "gam",
    "hul",
    "jor",
    "kes",
    "lum",
    "mev",
    "nar",
    "pol",
    "qui",
    "ras",
    "sto",
    "tem",
    "vul",
    "wex",
    "yor",
    "zan",
    "thi",
]


def drawn_questions(count, seed=0):
    """(question, answers that are right, kind); no answer is right to an unknowable one. Different
    questions, as many of each kind as its share, or as there are."""
    rng = np.random.default_rng(seed)
    found = []
    for kind, share in SHARES.items():
        every = list(dict.fromkeys(of_kind(kind, rng)))
        chosen = rng.permutation(len(every))[: round(share * count)]
        found += [(*every[place], kind) for place in chosen]
    return [found[place] for place in rng.permutation(len(found))]


def of_kind(kind, rng):
    """All questions of a kind, or many."""
    if kind == "sum":
        for a in range(1, 21):
            for b in range(1, 21):
                sums = {f"{a} + {b}": a + b, f"{a + b} - {b}": a, f"{a} times {b}": a * b}
                for words, value in sums.items():
                    phrasings = PHRASINGS["sum"]
                    phrasing = phrasings[rng.integers(len(phrasings))]
                    yield phrasing.format(words), str(value)
    elif kind == "next":
        for names, what in ((DAYS, "day"), (MONTHS, "month")):
            for place, name in enumerate(names):
                after = names[(place + 1) % len(names)]
                yield f"Which {what} comes after {name}?", after
                yield f"Which {what} comes right before {after}?", name
                yield f"Today is {name}. What {what} is next?", after
    elif kind == "unknowable":
        for place in range(400):
            name = " ".join("".join(rng.choice(SYLLABLES, 2)).title() for _ in range(2))
            yield UNKNOWABLE[place % len(UNKNOWABLE)].format(name), None
    else:
        tables = {"capital": CAPITALS, "opposite": OPPOSITES, "plural": PLURALS, "colour": COLOURS}
        for word, answer in tables[kind].items():
            for phrasing in PHRASINGS[kind]:
                yield phrasing.format(word), answer


def judged(asked, right, knowable, settings, splits, max_risk=0.1, false_alarm=0.05):
    """Means over re-splits, half of which calibrate: what the score tells apart, and promises.
    ``knowable``: whether each question can be answered; None of those that are left aside."""
    rng = np.random.default_rng(0)
    some = np.array([each is not None for each in knowable])
    known = np.array([bool(each) for each in knowable])
    found = []
    for seed in range(splits):
        order = rng.permutation(len(right))
        calibrates = np.sort(order[: len(right) // 2])
        tests = np.sort(order[len(right) // 2 :])
        model = learned(
            asked.found.take(calibrates),
            right[calibrates],
            settings,
            seed,
        )
        part = asked.found.take(tests)
        confidence = model.score.confidence(part.readings, part.hidden)
        familiar = model.p_value(part) > false_alarm
        accepted = familiar & (confidence >= model.threshold(max_risk, false_alarm))
        true = right[tests]
        aside = ~some[tests]
        tenth = np.quantile(confidence[true], 0.1)  # refused: a tenth of the right answers
        answerable = np.quantile(confidence[known[tests]], 0.1)
        wrong = float((~true[accepted]).mean()) if accepted.any() else 0.0
        found.append(
            {
                "AUROC right, score": auroc(confidence, true),
                "AUROC right, mean log p": auroc(part.readings[:, 0], true),
                "AUROC right, agreement": auroc(part.readings[:, 3], true),
                "AUROC right, semantic entropy": auroc(-part.readings[:, 4], true),
                "AUROC known, score": auroc(confidence[~aside], known[tests][~aside]),
                "AUROC known, mean log p": auroc(part.readings[~aside, 0], known[tests][~aside]),
                "unknowable refused, at 10 % of the right": (
                    confidence[~known[tests] & ~aside] < tenth
                ).mean(),
                "unknowable refused, at 10 % of the knowable": (
                    confidence[~known[tests] & ~aside] < answerable
                ).mean(),
                "unknowable not accepted": 1 - accepted[~known[tests] & ~aside].mean(),
                "accepted": accepted.mean(),
                "right among the accepted": 1 - wrong,
                "risk kept": float(wrong <= max_risk),
                "right ones called unfamiliar": (~familiar[true]).mean(),
                "score above mean log p": float(
                    auroc(confidence, true) >= auroc(part.readings[:, 0], true)
                ),
                "uses readings": float(model.score.uses != "log p"),
                "uses hidden states": float("hidden" in model.score.uses),
            }
        )
    for name in found[0]:
        print(f"{name:50} {np.mean([each[name] for each in found]):.4f}")


def marked(asked, answers):
    """Which of the most probable answers are right."""
    rows = zip(asked.rows, asked.writings, strict=True)
    accepted = [() if each is None else (each,) for each in answers]
    return np.array(
        [
            Meaning(asked.questions[row]).is_right(each.best.text, accepted[row])
            for row, each in rows
        ]
    )


def of_bios(people, splits):
    """A small model that learns the world, and what it knows of it."""
    world = bios(people)
    began = time.process_time()
    family = Sequence(steps=900, width=128, blocks=4)
    types = {"text": {"type": "text", "format": "tokens 1024"}}
    model = JointDensity(family=family, types=types).fit(world.texts, calibration=0.1).model_
    size = sum(weight.numel() for weight in model.joint.parameters())
    print(
        f"{size:,} parameters, {len(world.texts):,} texts, {time.process_time() - began:.0f} CPU s"
    )
    settings = settings_of(model, 8, 16, None, None)
    began = time.process_time()
    asked = ask(model, world.questions, settings, None)
    print(f"{len(asked.rows):,} questions answered in {time.process_time() - began:.0f} CPU s")
    right = marked(asked, world.answers)
    labels = [world.labels[row] for row in asked.rows]
    for label in sorted(set(labels)):
        some = np.array([each == label for each in labels])
        print(f"{label}: {some.sum()} questions, {right[some].mean():.3f} answered rightly")
    knowable = [{"known": True, "unknown": False}.get(label) for label in labels]
    judged(asked, right, knowable, settings, splits)


def of_language(folder, count, draws, max_tokens, splits):
    """A pretrained model, asked what is drawn here."""
    drawn = drawn_questions(count)
    model = from_pretrained(folder, capacity=128).model_
    settings = settings_of(model, draws, max_tokens, None, None)
    began = time.process_time()
    asked = ask(model, [question for question, _, _ in drawn], settings, None)
    print(f"{len(asked.rows):,} questions answered in {time.process_time() - began:.0f} CPU s")
    right = marked(asked, [answer for _, answer, _ in drawn])
    kinds = np.array([drawn[row][2] for row in asked.rows])
    for kind in SHARES:
        print(f"{kind}: {(kinds == kind).sum()} questions, {right[kinds == kind].mean():.3f} right")
    judged(asked, right, list(kinds != "unknowable"), settings, splits)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["bios", "language"])
    parser.add_argument("folder", nargs="?", help="of a pretrained model")
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--count", type=int, default=550)
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--max-tokens", type=int, default=14)
    parser.add_argument("--splits", type=int, default=200)
    asked = parser.parse_args()
    if asked.what == "bios":
        of_bios(asked.people, asked.splits)
    elif asked.folder is None:
        parser.error("language needs the folder of a pretrained model.")
    else:
        of_language(asked.folder, asked.count, asked.draws, asked.max_tokens, asked.splits)


if __name__ == "__main__":
    main()
