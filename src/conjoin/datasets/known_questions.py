"""Questions with known answers that come with the package: by them a chat model learns when it is
right. Some have no answer, as they are about invented people.

They were written for this package and are under its licence; no model was trained on them here.
Every second one stands as people type it, without capitals and the mark at its end.

>>> questions, answers = known_questions()
>>> questions[0], answers[0]
('What is the capital of France?', ['Paris'])
>>> len(questions) == len(set(questions)) == len(answers) > 180
True
"""

from collections.abc import Iterator

__all__ = ["known_questions", "typed"]

CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "Austria": "Vienna",
    "Greece": "Athens",
    "Poland": "Warsaw",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Ireland": "Dublin",
    "Russia": "Moscow",
    "Turkey": "Ankara",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Thailand": "Bangkok",
    "Canada": "Ottawa",
    "Cuba": "Havana",
    "Peru": "Lima",
    "Australia": "Canberra",
    "Nepal": "Kathmandu",
}
OPPOSITES = {
    "hot": "cold",
    "big": "small",
    "up": "down",
    "day": "night",
    "black": "white",
    "open": "closed",
    "rich": "poor",
    "happy": "sad",
    "wet": "dry",
    "full": "empty",
    "early": "late",
    "strong": "weak",
    "loud": "quiet",
    "clean": "dirty",
    "deep": "shallow",
    "wide": "narrow",
    "thick": "thin",
    "true": "false",
    "always": "never",
    "first": "last",
    "sweet": "sour",
    "cheap": "expensive",
}
PLURALS = {
    "mouse": "mice",
    "child": "children",
    "foot": "feet",
    "goose": "geese",
    "leaf": "leaves",
    "knife": "knives",
    "city": "cities",
    "box": "boxes",
    "dog": "dogs",
    "potato": "potatoes",
    "sheep": "sheep",
    "berry": "berries",
}
COLOURS = {
    "a ripe banana": ("yellow",),
    "fresh grass": ("green",),
    "fresh snow": ("white",),
    "coal": ("black",),
    "blood": ("red",),
    "a carrot": ("orange",),
    "milk": ("white",),
    "an emerald": ("green",),
    "a raven": ("black",),
    "chocolate": ("brown",),
}
SUMS = {
    "2 + 3": "5",
    "4 + 9": "13",
    "7 + 8": "15",
    "12 + 6": "18",
    "15 + 17": "32",
    "10 - 4": "6",
    "14 - 9": "5",
    "20 - 13": "7",
    "3 times 4": "12",
    "6 times 7": "42",
    "9 times 5": "45",
    "8 times 12": "96",
}
NEXT = {
    "Which day comes after Monday?": "Tuesday",
    "Which day comes after Thursday?": "Friday",
    "Which day comes right before Sunday?": "Saturday",
    "Which month comes after March?": "April",
    "Which month comes after August?": "September",
    "Which month comes right before June?": "May",
    "Which letter comes after B in the alphabet?": "C",
    "Which number comes after nineteen?": "20",
}
# the heavier, larger or faster one first: said so, as the question names both
COMPARED = {
    "heavier": (
        ("an elephant", "a mouse"),
        ("a car", "a bicycle"),
        ("a brick", "a feather"),
        ("a horse", "a cat"),
        ("a ship", "a rowing boat"),
        ("a piano", "a violin"),
        ("a litre of mercury", "a litre of milk"),
        ("a bucket of sand", "a bucket of leaves"),
    ),
    "larger": (
        ("the sun", "the earth"),
        ("a whale", "a dolphin"),
        ("Russia", "Belgium"),
        ("an ocean", "a lake"),
        ("a melon", "a cherry"),
        ("a bus", "a motorcycle"),
    ),
    "faster": (
        ("a train", "a bicycle"),
        ("an aeroplane", "a car"),
        ("light", "sound"),
        ("a cheetah", "a tortoise"),
        ("a horse", "a snail"),
        ("a car", "a pedestrian"),
    ),
}
EQUALLY_HEAVY = (
    ("a kilo of iron", "a kilo of feathers"),
    ("a pound of gold", "a pound of straw"),
    ("a ton of bricks", "a ton of cotton"),
    ("a kilo of sand", "a kilo of snow"),
    ("100 grams of lead", "100 grams of wool"),
    ("a kilo of apples", "a kilo of paper"),
    ("two pounds of butter", "two pounds of nails"),
    ("a gram of dust", "a gram of silver"),
    ("a ton of coal", "a ton of hay"),
    ("five kilos of rice", "five kilos of stones"),
)
SAME = ("same", "equal", "equally", "neither", "both weigh")
FACTS = {
    "How many legs does a spider have?": ("8",),
    "How many days are there in a week?": ("7",),
    "How many months are there in a year?": ("12",),
    "How many minutes are there in an hour?": ("60",),
    "How many wheels does a bicycle have?": ("2",),
    "How many sides does a triangle have?": ("3",),
    "How many continents are there?": ("7",),
    "How many cents are in a dollar?": ("100",),
    "Which planet is closest to the sun?": ("Mercury",),
    "Which planet is known as the red planet?": ("Mars",),
    "What is the largest ocean?": ("Pacific",),
    "What is the tallest mountain in the world?": ("Everest",),
    "What is the chemical symbol of oxygen?": ("O",),
    "What is frozen water called?": ("ice",),
    "Which gas do plants take from the air?": ("carbon dioxide", "CO2"),
    "At how many degrees Celsius does water boil?": ("100",),
    "Which animal barks?": ("dog",),
    "Which animal gives us milk?": ("cow", "cows", "goat"),
    "What do bees make?": ("honey",),
    "What is a young cat called?": ("kitten",),
    "What is a young dog called?": ("puppy",),
    "Who wrote Romeo and Juliet?": ("Shakespeare",),
    "Who painted the Mona Lisa?": ("Leonardo", "Vinci"),
    "Who was the first person on the moon?": ("Armstrong",),
    "In which country is the Eiffel Tower?": ("France",),
    "Which language is spoken in Brazil?": ("Portuguese",),
    "Which language is spoken in Germany?": ("German",),
    "What is the currency of Japan?": ("yen",),
    "What is the currency of the United Kingdom?": ("pound", "pounds", "sterling"),
    "Which season comes after winter?": ("spring",),
    "Which organ pumps blood through the body?": ("heart",),
    "What do we breathe with?": ("lungs", "lung"),
    "Which metal is liquid at room temperature?": ("mercury",),
    "In which year did the Second World War end?": ("1945",),
    "What falls from the sky when it is cold?": ("snow",),
    "With what do we cut paper?": ("scissors",),
    "What do we wear on our feet?": ("shoes", "socks", "boots"),
    "Which sense do we use our ears for?": ("hearing",),
    "What is the largest animal?": ("blue whale",),
}
PEOPLE = (
    "Brafel Dromev",
    "Jorkes Lumnar",
    "Polras Stovul",
    "Wexthi Zanhul",
    "Temgam Yorqui",
    "Felnar Kestho",
    "Gamwex Brajor",
    "Hulsto Rasmev",
)
UNKNOWABLE = (
    "In which city was {} born?",
    "What is the name of {}'s dog?",
    "What did {} eat for breakfast this morning?",
    "Which color is {}'s bicycle?",
    "How many sisters does {} have?",
    "Who is married to {}?",
    "In which year did {} finish school?",
)


def known_questions() -> tuple[list[str], list[list[str] | None]]:
    """Questions, and of each all answers that are right, or None where no one can know."""
    made = dict(_made())
    questions = [
        question if place % 2 == 0 else typed(question) for place, question in enumerate(made)
    ]
    return questions, list(made.values())


def typed(question: str) -> str:
    """As people type it, without capitals and a mark at its end.

    >>> typed("How do I cook rice?")
    'how do i cook rice'
    """
    return question.lower().rstrip("?.!")


def _made() -> Iterator[tuple[str, list[str] | None]]:
    for country, city in CAPITALS.items():
        yield f"What is the capital of {country}?", [city]
    for word, other in OPPOSITES.items():
        yield f'What is the opposite of "{word}"?', [other]
    for word, several in PLURALS.items():
        yield f'What is the plural of "{word}"?', [several]
    for thing, colours in COLOURS.items():
        yield f"What color is {thing}?", [*colours]
    for words, number in SUMS.items():
        yield f"What is {words}?", [number]
    for question, after in NEXT.items():
        yield question, [after]
    for how, pairs in COMPARED.items():
        for place, (more, less) in enumerate(pairs):
            first, second = (more, less) if place % 2 else (less, more)
            noun = more.removeprefix("a ").removeprefix("an ").removeprefix("the ")
            verbs = ("is", "is the", "is much", "moves", "travels", "runs")
            right = [f"{noun} {verb} {how}" for verb in verbs]
            yield f"What is {how}: {first} or {second}?", right
    for place, (one, other) in enumerate(EQUALLY_HEAVY):
        words = "Which weighs more" if place % 2 else "What is heavier"
        yield f"{words}: {one} or {other}?", [*SAME]
    for question, answers in FACTS.items():
        yield question, [*answers]
    for place, person in enumerate(PEOPLE):
        for again in range(4):
            yield UNKNOWABLE[(place + again * 2) % len(UNKNOWABLE)].format(person), None
