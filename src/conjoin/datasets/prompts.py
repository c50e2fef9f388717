"""Plain English that comes with the package: paragraphs by which a language model in few bits is
judged, and everyday questions by which an alarm before its answers is calibrated.

They were written for this package and are under its licence; no model was trained on them here.

>>> len(everyday_questions()) > 200
True
"""

from conjoin.datasets.known_questions import typed

__all__ = ["PARAGRAPHS", "everyday_questions"]

PARAGRAPHS = (
    "The ferry left the harbour a little after six, when the fog had lifted from the water and the "
    "first gulls were following the nets. Most of the passengers stood at the rail and watched "
    "the town grow smaller, until only the two towers of the church could still be seen.",
    "To bake bread you need flour, water, salt and yeast. Mix the dough, let it rest until it has "
    "doubled in size, fold it gently, and put it into a hot oven. After forty minutes the crust "
    "should be brown, and the loaf should sound hollow when you knock on the bottom.",
    "A triangle with sides of three, four and five metres has a right angle between the two "
    "shorter sides, because nine and sixteen add up to twenty-five. Builders have used a rope with "
    "twelve knots for thousands of years to check that a corner is square.",
    "Bees do not see red, but they see ultraviolet light, in which many flowers have patterns that "
    "lead to the nectar. A forager who has found a good meadow returns to the hive and dances; the "
    "direction of the dance tells the others where to fly, and its length how far.",
    "When the company was founded, it had three employees and one machine. Ten years later it sold "
    "pumps to forty countries. The founder still walked through the factory every morning, asked "
    "people about their families, and knew which of the older machines needed oil.",
    "The patient was a woman of sixty-two years who had been coughing for three weeks. She had no "
    "fever, did not smoke, and took medicine for high blood pressure. The doctor listened to her "
    "lungs, asked when the cough had begun, and changed the medicine before he ordered any test.",
    "If a list is sorted, you can find an entry by looking at the middle first. When the middle is "
    "too large, the entry must be in the first half; when it is too small, in the second. Each "
    "step halves what is left, so a million entries need only about twenty comparisons.",
    "My grandmother kept her letters in a tin under the bed. We read them after the funeral, on a "
    "rainy afternoon, and learned that she had once wanted to become a pilot. Nobody in the family "
    "had known, and my mother said that it explained a great deal.",
    "The government announced on Tuesday that the railway between the two largest cities would be "
    "rebuilt. Work is expected to begin next spring and to take five years. Trains will then need "
    "ninety minutes, half of what they need today, and will run every half hour.",
)
QUESTIONS = (
    "What is {}?",
    "How does {} work?",
    "Can you explain {} to a child?",
    "Why is {} important?",
    "Tell me something interesting about {}.",
    "Write two sentences about {}.",
    "What should I know about {} before I begin?",
    "Who knows most about {}?",
    "Is {} good or bad for people?",
    "When did people first hear of {}?",
)
TOPICS = (
    "the moon",
    "a bicycle",
    "bread",
    "photosynthesis",
    "the heart",
    "a thunderstorm",
    "football",
    "the internet",
    "a loan from a bank",
    "the violin",
    "learning a language",
    "the weight of water",
    "a vegetable garden",
    "democracy",
)
EVERYDAY = (
    "How many legs does a spider have?",
    "Which is faster: a horse or a train?",
    "What is larger: the sun or the moon?",
    "Which weighs more: a cup of milk or a cup of sand?",
    "What is heavier: a bucket of water or a bucket of stones?",
    "Is ice lighter than water?",
    "What is the capital of Italy?",
    "Which city is the capital of Japan?",
    "Who wrote Romeo and Juliet?",
    "Who painted the Mona Lisa?",
    "What can I cook with eggs and potatoes?",
    "How far is it from the earth to the moon?",
    "Why is the sky blue?",
    "Please suggest a name for my cat.",
    "What is 17 plus 25?",
    "How much is seven times eight?",
    "How do I remove a coffee stain from a shirt?",
    "Give me three tips for a job interview.",
    "Write a short poem about autumn.",
    "Translate 'good morning' into Spanish.",
    "What does the word 'ubiquitous' mean?",
    "What is the opposite of generous?",
    "Which planet is closest to the sun?",
    "How many days are there in a leap year?",
    "How do I boil an egg?",
    "What should I pack for a weekend in the mountains?",
    "My phone is slow, what can I do?",
    "How can I sleep better?",
    "What is the difference between a virus and a bacterium?",
    "Why do cats purr?",
    "How do birds find their way south?",
    "What happens when water freezes?",
    "Can you recommend a book for a rainy day?",
    "How do I say no to my boss politely?",
    "What is the largest ocean?",
    "Which language is spoken in Brazil?",
    "When did the Second World War end?",
    "Who was the first person on the moon?",
    "How does a refrigerator keep food cold?",
    "What is the boiling point of water?",
    "How many minutes are in three hours?",
    "Write an email to invite a friend to dinner.",
    "Summarise the story of Cinderella in two sentences.",
    "What are the colours of the rainbow?",
    "Is a tomato a fruit or a vegetable?",
    "How do I sort a list in Python?",
    "What does HTML stand for?",
    "Explain what a database is.",
    "Why do leaves fall in autumn?",
    "How old is the universe?",
    "What do pandas eat?",
    "Where do penguins live?",
    "How can I save money every month?",
    "What is a healthy breakfast?",
    "How much water should I drink in a day?",
    "I have a headache, what can help?",
    "What is the fastest animal?",
    "Tell me a joke.",
    "What year was the telephone invented?",
    "How do I change a bicycle tyre?",
    "What is inflation?",
    "Why is the sea salty?",
    "How do plants drink?",
    "Name five animals that live in the sea.",
    "Name three countries in Africa.",
    "Which river flows through London?",
    "What is the square root of 81?",
    "If I have ten apples and eat three, how many are left?",
    "What comes after Wednesday?",
    "Which month has twenty-eight days?",
    "How do I write a letter of thanks?",
    "What gift should I buy for my mother?",
    "How do I grow tomatoes on a balcony?",
    "What is the meaning of life?",
    "Do fish sleep?",
    "Can dogs see colours?",
    "How do aeroplanes fly?",
    "What is electricity?",
    "What makes a good friend?",
    "How do I learn to play the guitar?",
    "What is the tallest mountain in the world?",
    "Which metal is liquid at room temperature?",
    "Why do we dream?",
    "What is the difference between weather and climate?",
    "How do I make pancakes?",
    "What is a noun?",
    "Correct this sentence: he go to school yesterday.",
    "Make a list of things to do in Paris.",
    "How do vaccines protect us?",
    "What are prime numbers?",
    "Who invented the light bulb?",
    "What is the currency of Switzerland?",
    "How long does it take to learn to swim?",
    "Why should I brush my teeth?",
    "What time is it when the sun is highest?",
    "How do I calm a crying baby?",
    "What is recycling?",
    "How do I start a small business?",
    "Are you a human being?",
    "What can you do for me?",
)


def everyday_questions() -> list[str]:
    """What people ask a chat model: each question about each topic, every second one as people type
    it, and some others, in both ways."""
    made = [question.format(topic) for topic in TOPICS for question in QUESTIONS]
    made = [typed(each) if place % 2 else each for place, each in enumerate(made)]
    return [*made, *EVERYDAY, *map(typed, EVERYDAY)]
