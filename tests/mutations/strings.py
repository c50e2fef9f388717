"""Planted bugs in the counts of grams."""

from mutations_base import at

TESTS = ("tests/test_ngram.py",)
PLAIN = (*TESTS, "-k", "kneser_ney or discount")
LEFT_OUT = (*TESTS, "-k", "left_out")
DRAWS = (*TESTS, "-k", "draws or continuations or steps or beginning")
SUMS = (*TESTS, "-k", "sum_to_one or class")

ARRAYS = at(
    "nets/decoder_steps.py",
    ("tests/test_decoder.py", "-k", "arrays or stepped"),
    (
        "a position does not see itself",
        "values[:, :, place] = each[:, 2].reshape(rows, heads, width)",
        "pass",
    ),
    ("scores are not scaled", "np.array([1, net.shape[2] ** 0.5]", "np.array([1, 1.0]"),
    ("turned the other way", "np.stack([-sin, sin], 1)[", "np.stack([sin, -sin], 1)["),
    ("relu without its square", "        positive *= positive\n", ""),
    ("nothing of the block before", "        more += h\n", ""),
)
COUNTS = at(
    "families/classic/kneser_ney.py",
    PLAIN,
    (
        "shorter grams keep their number",
        "count = torch.where(whole, raw, ways)",
        "count = raw",
    ),
    (
        "grams that begin a string are counted by what stands before them",
        "whole = (length == len(trie.sizes)) | start",
        "whole = length == len(trie.sizes)",
    ),
    ("the share of singletons is not doubled", "often[0] + 2 * often[1]", "often[0] + often[1]"),
    (
        "a count above 2 costs what 2 costs",
        "return low + middle + (count - 2).clamp(0, 1) * (d3 - d2)",
        "return low + middle",
    ),
    (
        "what is discounted is lost",
        "(1 - escape) * cell.seen / left + escape * lower, lower)",
        "(1 - escape) * cell.seen / left, lower)",
    ),
)
CLASSES = at(
    "families/classic/kneser_ney.py",
    SUMS,
    (
        "a class keeps all its mass and leans as well",
        "/ (cell.of_class + strength)",
        "/ (cell.of_class + 0.5 * strength)",
    ),
    (
        "the beginning of a string is a continuation in a class",
        "own = summed(torch.where(ends, 0.0, in_class))",
        "own = summed(in_class)",
    ),
)
OUT = at(
    "families/classic/left_out.py",
    LEFT_OUT,
    (
        "a gram that vanishes still counts before the shorter one",
        "vanish = torch.zeros_like(shorter.often).index_add(0, place, gone.double())",
        "vanish = torch.zeros_like(shorter.often)",
    ),
    (
        "a row of weight two is left out once",
        "often = torch.bincount(inverse, minlength=len(found)).double() * weight[row]",
        "often = torch.bincount(inverse, minlength=len(found)).double()",
    ),
    (
        "the class keeps the row's grams",
        "mine = torch.where(counts, self.gram.often, 0.0)",
        "mine = torch.zeros_like(self.gram.often)",
    ),
)
FAMILY = at(
    "families/classic/ngram.py",
    DRAWS,
    (
        "steps forget what the tokens say of the class",
        "state.log_class + come)",
        "state.log_class)",
    ),
    (
        "the context does not move on",
        "node = torch.cat([state.node[:, :1], longer], 1)",
        "node = state.node",
    ),
    (
        "a full string may go on",
        "if state.place == self.capacity:",
        "if state.place > self.capacity:",
    ),
)
NETWORK = at(
    "nets/decoder.py",
    ("tests/test_decoder.py",),
    (
        "a state that was gone on from is written over",
        "if store.written == self.place < store.keys.shape[3]:",
        "if self.place < store.keys.shape[3]:",
    ),
    (
        "values are not kept",
        "self.store.values[block, :, :, self.place : after] = value",
        "pass",
    ),
    (
        "angles do not grow with the position",
        "return torch.arange(positions, dtype=torch.float64)[:, None] * speed",
        "return torch.ones(positions, dtype=torch.float64)[:, None] * speed",
    ),
)
MUON = at(
    "nets/muon.py",
    ("tests/test_decoder.py", "-k", "muon or orthogonalised or bits"),
    ("one iteration too few", "range(ITERATIONS)", "range(ITERATIONS - 1)"),
    ("momentum does not look ahead", "matrix.grad.add(kept, alpha=MOMENTUM)", "kept"),
    ("tall matrices move less", "own * max(1.0, rows / columns) ** 0.5", "own"),
    ("no weight decay", "matrix.mul_(1 - own * self.decay)", "pass"),
)
RESUMED = at(
    "training/learners.py",
    ("tests/test_decoder.py", "-k", "bits"),
    (
        "momentum is lost on resumption",
        'state[f"momentum.{index}"].to(matrix.device, copy=True)',
        "torch.zeros_like(matrix)",
    ),
)
CHOSEN = at(
    "core/sampling.py",
    ("tests/test_decoder.py", "-k", "narrow or chosen or drawn"),
    ("a token too many", "rank >= few", "rank > few"),
    ("the nucleus is too small", "before >= self.top_p", "before + ordered.exp() >= self.top_p"),
)
CERTAINTY = at(
    "model/model.py",
    ("tests/test_sequences.py", "-k", "held_out or alone"),
    (
        "p(y) is tempered too",
        "(gain / self.state.temperature + prior)",
        "((gain + prior) / self.state.temperature)",
    ),
)
TOKENS = at(
    "codecs/tokens.py",
    ("tests/test_text.py",),
    (
        "a bound is not told",
        '    format = "tokens"\n    word = "tokens"\n    several = True\n',
        '    format = "tokens"\n    word = "tokens"\n    several = False\n',
    ),
    ("bytes in another code", 'string.encode("utf-8")', 'string.encode("utf-16")'),
)
NEW = [*NETWORK, *MUON, *RESUMED, *CHOSEN, *CERTAINTY, *TOKENS]
MUTATIONS = [*ARRAYS, *COUNTS, *CLASSES, *OUT, *FAMILY, *NEW]
