"""Whether a model of texts knows when it is right: the world of ``bios`` and a language model.

    python benchmarks/answers.py bios
    python benchmarks/answers.py language FOLDER [--count 550]

``bios`` fits a small model of one's own; ``language`` asks a pretrained one, in a local folder,
questions that are drawn here: sums, capitals, opposites, plurals, colours, days and months, and
some about invented people, which no one can answer. Half of the questions calibrate, half are asked.
"""

import numpy as np

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid",
    "Portugal": "Lisbon", "Austria": "Vienna", "Greece": "Athens", "Poland": "Warsaw", "Hungary": "Budapest",
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
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
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
