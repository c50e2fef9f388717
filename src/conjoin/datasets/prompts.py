"""Plain English that comes with the package: paragraphs by which a language model in few bits is
judged, and everyday questions by which an alarm before its answers is calibrated.

They were written for this package and are under its licence; no model was trained on them here.

>>> len(everyday_questions()) > 300
True
"""

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
    "a volcano",
    "chess",
    "gravity",
    "coffee",
    "the Roman Empire",
    "a whale",
    "a loan from a bank",
    "vaccination",
    "the violin",
    "an earthquake",
    "solar power",
    "a rainbow",
    "the weight of water",
    "a kilo of iron",
    "learning a language",
    "a good night's sleep",
    "the tides",
    "a vegetable garden",
    "air pressure",
    "Python",
    "a steam engine",
    "democracy",
)
EVERYDAY = (
    "How many legs does a spider have?",
    "Which is faster: a horse or a train?",
    "What is larger: the sun or the moon?",
    "Which weighs more: a cup of milk or a cup of sand?",
    "What is heavier: a bucket of water or a bucket of stones?",
    "Which city is the capital of France?",
    "What can I cook with eggs and potatoes?",
    "How far is it from the earth to the moon?",
    "Why is the sky blue?",
    "Please suggest a name for my cat.",
    "What is 17 plus 25?",
    "How do I remove a coffee stain from a shirt?",
)


def everyday_questions() -> list[str]:
    """What people ask a chat model: each question about each topic, and some others."""
    made = [question.format(topic) for topic in TOPICS for question in QUESTIONS]
    return [*made, *EVERYDAY]
