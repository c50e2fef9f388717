"""Text: nats a character, classes and familiarity of articles, speed of decoding.

    python benchmarks/text.py shakespeare [--seconds 2400] [--size 1] [--seed 0] [--checkpoint DIR]
    python benchmarks/text.py agnews [--rows 10001] [--labels 10] [--family ngram] [--seed 0]
    python benchmarks/text.py decode [--tokens 300]
    python benchmarks/text.py throughput [--size 1] [--batch 16]

``shakespeare``: tinyshakespeare by nanoGPT's split (the last tenth is the test), static: nothing is
learned from the test. The network sees windows of 256 characters and is judged on the second half
of each, so each character has 128 to 255 before it. It learns for so many CPU seconds (by the time
of its first steps) from the first 95 % of the part to learn, says on the way what it reaches on
the rest, and is kept as it was in the round in which it did best on that. With ``--checkpoint`` a
run that was broken off goes on; with ``--wall`` its rate has fallen to zero after so many seconds
by the clock. Counts (family ngram) see windows of
1,000. The mixture adds up p of the next character; its weights, one pair for each of a few steps of
how sure either is, are learned on the last 5 % of the part to learn, by counts that have not seen
it; the counts of the test have. Characters that only one of the two was judged on are left out of
the mixture.

``agnews``: p(x, y) on so many rows of ``agnews``; accuracy, calibration error (15 bins of the top
probability; chance alone makes about .02 of it on 1,000 rows) and log-loss on 1,000 rows of its
test (seed 0) and on all 7,600; AUROC of log p(x) a character and of familiarity against SST-2 and
lines of Shakespeare. With ``--labels`` so many rows of each class have their label.

``decode``: characters a CPU second of a network of one million parameters, batch 1, one thread:
as draws take them (float32), as log p does (float64), and without a cache; whether all choose the
same. Beside them transformers' ``generate``, a Llama of the same size, where it is installed. The
best of a few times each. Asked: 1,500.

``throughput``: tokens a CPU second of learning, one thread, in float32 and in bfloat16, windows of
256, beside a plain GPT of the same width, depth, heads and context: layer norms, GELU, learned
positions, torch's attention, AdamW and clipped gradients. Steps of all by turns, the quickest of a
few times each. By default a fit takes the precision that is faster on the machine.

Asked: 1.60 nats a character by the network, 1.42 by the mixture, 20 minutes of two cores; accuracy
.885 and calibration error .02.
"""

import argparse
import contextlib
import dataclasses
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from conjoin import JointClassifier
from conjoin.core import Block, Event, Record, Variable, stream
from conjoin.datasets import load_texts
from conjoin.families.autoregressive.sequence import Sequence, SequenceDensity
from conjoin.families.classic.ngram import Ngram, NgramDensity
from conjoin.nets.precision import PRECISIONS, computing_in
from conjoin.training.learners import Batch, Gradient
from conjoin.training.loop import Plan, train
from conjoin.training.progress import Bar, Progress

WINDOW = 256  # characters that the network sees
STRIDE = 64  # between the windows that it learns from
COUNTED_WINDOW = 1000
LEARNED_SHARE = 0.95  # of the part to learn; the rest teaches the weights of the mixture
TIMED_STEPS = 3
TOLD_TIMES = 10  # while the network learns
TOLD_WINDOWS = 64
CHECKPOINT_SECONDS = 120.0
SURENESS = (0.3, 0.5, 0.7, 0.9)  # of the top probability: where weights of the mixture change
MIXTURE_STEPS = 50  # of expectation-maximisation
PLAIN_HEADS = 4  # of the plain GPT, each of 32 numbers as ours at this width
BINS = 15
TEST_ROWS = 1000
TIMES = 3  # that work is done, of which the quickest counts


def cpu(work):
    """What ``work`` gives, and its CPU seconds."""
    began = time.process_time()
    found = work()
    return found, time.process_time() - began


# ------------------------------------------------------------------------------------- shakespeare


def space_of(characters, capacity):
    return Block(
        "text", "sequence", (capacity,), (Variable("letter", "category", len(characters)),)
    )


class Told(Progress):
    """Says a few times what the network reaches on some windows (B, N) of the held-out part."""

    def __init__(self, density, windows):
        super().__init__()
        self.density, self.windows = density, windows
        self.began = time.process_time()

    @contextlib.contextmanager
    def phase(self, label, total, done=0):
        bar = Bar()
        bar.update = partial(self.tell, every=max(1, total // TOLD_TIMES))
        yield bar

    def tell(self, done, note="", *, every):
        if done % every:
            return
        log_p = seen_at_once(self.density, self.windows)[:, WINDOW // 2 :]
        found = nats(log_p.flatten(0, 1), self.windows[:, WINDOW // 2 :].flatten())
        best = float(note.split()[0]) / -WINDOW if note else float("nan")
        print(
            f"  round {done}, {time.process_time() - self.began:.0f} CPU s: {found:.4f} nats a "
            f"character of some windows; of whole ones {best:.4f} in the best round so far",
            flush=True,
        )


def learned_network(codes, held, characters, options):
    """The network, and the CPU seconds of its training."""
    space = space_of(characters, WINDOW)
    rows = space.check(Event(codes.unfold(0, WINDOW, STRIDE).contiguous()))
    shares = {"decay": options.decay, "dropout": options.dropout}
    config = Sequence(size=options.size, batch=options.batch, **shares)
    config = config.in_precision("auto")
    noise = partial(stream, options.seed)

    def begun():
        return SequenceDensity.build(space, config, rows.take(slice(0, 8)), noise("build"))

    learner = Gradient(begun(), config.recipe(rows.rows))
    learner.begin()
    weight = torch.ones(rows.rows, dtype=torch.float64)
    some = Batch(rows.take(slice(0, config.batch)), weight[: config.batch], float(rows.rows))
    _, seconds = cpu(lambda: [learner.step(some, noise(k)) for k in range(TIMED_STEPS)])
    steps = int(options.seconds * TIMED_STEPS / seconds)
    density = begun()
    plan = Plan(seed=options.seed, steps=steps)
    if options.checkpoint:
        plan = resumable(plan, options.checkpoint)
    if options.wall:
        plan = dataclasses.replace(plan, max_time=options.wall)
    print(f"{plan.steps} steps of {config.batch} windows, {config}", flush=True)
    windows = _windows(held, WINDOW)
    told = Told(density, windows[:TOLD_WINDOWS])
    choose = space.check(Event(windows))
    _, seconds = cpu(lambda: train(density, rows, weight, choose, plan, told))
    speed = steps * config.batch * WINDOW / seconds
    print(f"learned for {seconds:.0f} CPU s, {speed:,.0f} characters a CPU s", flush=True)
    return density, seconds


def resumable(plan, folder):
    """The plan with a checkpoint, and as many steps as the run had that was broken off."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "steps.txt"
    resume = kept.exists()
    if not resume:
        kept.write_text(str(plan.steps))
    return dataclasses.replace(
        plan,
        steps=int(kept.read_text()),
        checkpoint=folder / "network.safetensors",
        resume=resume,
        every=CHECKPOINT_SECONDS,
    )


@torch.no_grad()
def seen_at_once(density, windows):
    """(B, N, V) log p of each character of the windows (B, N), by one look of the network."""
    told = density.begin(len(windows)).context
    return density.net(windows[:, :-1], told)[:, :, :-1].log_softmax(2)  # a window does not end


@torch.no_grad()
def next_characters(density, windows):
    """(B, N, V) log p of each character of the windows (B, N) by ``step``."""
    state = density.begin(len(windows))
    token = None
    found = []
    for place in range(windows.shape[1]):
        state, log_p = density.step(state, token)
        found.append(log_p[:, :-1].log_softmax(1))  # a window does not end
        token = windows[:, place]
    return torch.stack(found, 1)


def by_network(density, codes):
    """log p of the characters from WINDOW / 2 on, (T, V)."""
    half = WINDOW // 2
    windows = codes.unfold(0, WINDOW, half)
    each = [seen_at_once(density, part)[:, half:] for part in windows.split(128)]
    return torch.cat(each).flatten(0, 1)


def by_counts(codes, learn, characters, seed):
    """log p of the characters in whole windows, (T, V), and the CPU seconds of the fit."""
    space = space_of(characters, COUNTED_WINDOW)
    rows = space.check(Event(_windows(learn, COUNTED_WINDOW)))
    density, seconds = cpu(lambda: counted(space, rows, seed))
    return next_characters(density, _windows(codes, COUNTED_WINDOW)).flatten(0, 1), seconds


def counted(space, rows, seed):
    density = NgramDensity.build(space, Ngram(), rows, stream(seed, "counts"))
    weight = torch.ones(rows.rows, dtype=torch.float64)
    density.maximise(density.statistics(rows, weight=weight))
    return density


def _windows(codes, size):
    return codes[: len(codes) // size * size].reshape(-1, size)


def cells_of(first, second):
    """Which pair of weights goes with each character."""
    edges = torch.tensor(SURENESS, dtype=torch.float64)
    steps = [torch.bucketize(log_p.amax(1).exp(), edges) for log_p in (first, second)]
    return steps[0] * (len(SURENESS) + 1) + steps[1]


def mixture_weights(first, second, cell, target):
    """By expectation-maximisation, (cells, 2); half a character added to each."""
    own = torch.stack([part.gather(1, target[:, None])[:, 0] for part in (first, second)], 1)
    weight = torch.full(((len(SURENESS) + 1) ** 2, 2), 0.5, dtype=torch.float64)
    for _ in range(MIXTURE_STEPS):
        share = (own + weight[cell].log()).softmax(1)
        total = torch.full_like(weight, 0.5).index_add(0, cell, share)
        weight = total / total.sum(1, keepdim=True)
    return weight


def nats(log_p, target):
    return -float(log_p.gather(1, target[:, None]).mean())


def shakespeare(options):
    texts = load_texts("tinyshakespeare").strings
    learn_text, test_text = texts["train"][0], texts["val"][0]
    characters = sorted(set(learn_text))
    code = {character: place for place, character in enumerate(characters)}
    learn, test = (torch.tensor([code[c] for c in text]) for text in (learn_text, test_text))
    cut = int(LEARNED_SHARE * len(learn))
    network, _ = learned_network(learn[:cut], learn[cut:], characters, options)
    found = {}
    for name, codes, seen in (("held", learn[cut:], learn[:cut]), ("test", test, learn)):
        first = by_network(network, codes)
        second, seconds = by_counts(codes, seen, characters, options.seed)
        half = WINDOW // 2
        print(
            f"{name}: network {nats(first, codes[half:][: len(first)]):.4f}, counts "
            f"{nats(second, codes[: len(second)]):.4f} nats a character (counted in "
            f"{seconds:.1f} CPU s)",
            flush=True,
        )
        most = min(len(first), len(second) - half)
        found[name] = (first[:most], second[half:][:most], codes[half:][:most])
    first, second, target = found["held"]
    weight = mixture_weights(first, second, cells_of(first, second), target)
    first, second, target = found["test"]
    log_weight = weight[cells_of(first, second)].log()
    mixed = torch.logaddexp(first + log_weight[:, :1], second + log_weight[:, 1:])
    print(f"test: mixture {nats(mixed, target):.4f} nats a character")


# ------------------------------------------------------------------------------------------ agnews


def calibration_error(proba, right):
    """Mean gap between the top probability and how often it is right, over bins of it."""
    top = proba.max(1)
    place = np.minimum((BINS * top).astype(int), BINS - 1)
    gaps = [abs((top - right)[place == each].sum()) for each in range(BINS)]
    return sum(gaps) / len(top)


def few_labels(y, count, rng):
    """Labels of ``count`` rows of each class alone."""
    places = [np.flatnonzero(y == each) for each in np.unique(y)]
    kept = np.concatenate([rng.permutation(place)[:count] for place in places])
    few = np.full(len(y), None, dtype=object)
    few[kept] = y[kept]
    return few


def familiarity(model, texts):
    """p-values of how typical texts are."""
    return model.model_.p_value(model.model_.encode(texts))


def agnews(options):
    from sklearn.metrics import roc_auc_score

    texts = load_texts("agnews")
    rng = np.random.default_rng(options.seed)
    rows = rng.permutation(len(texts.strings["train"]))[: options.rows]
    X = [texts.strings["train"][row] for row in rows]
    y = texts.labels["train"][rows]
    test = np.random.default_rng(0).permutation(len(texts.strings["test"]))[:TEST_ROWS]
    T = [texts.strings["test"][row] for row in test]
    if options.labels:
        y = few_labels(y, options.labels, rng)
    model = JointClassifier(family=options.family, random_state=options.seed)
    _, seconds = cpu(lambda: model.fit(X, y))
    print(f"{len(X)} rows, {seconds:.0f} CPU s of the fit")
    print(model.model_.card["predictor"]["why"], flush=True)
    every = texts.strings["test"]
    proba = model.predict_proba(every)
    for name, some in (("1,000", test), ("all", np.arange(len(every)))):
        truth = texts.labels["test"][some]
        own = proba[some, np.searchsorted(model.classes_, truth)]
        right = model.classes_[proba[some].argmax(1)] == truth
        print(
            f"{name}: accuracy {right.mean():.4f}, calibration error "
            f"{calibration_error(proba[some], right):.4f}, log-loss {-np.log(own).mean():.4f}",
            flush=True,
        )
    others = {
        "sst2": load_texts("sst2").strings["test"][:TEST_ROWS],
        "shakespeare": [
            line
            for line in load_texts("tinyshakespeare").strings["val"][0].split("\n")
            if len(line) > 20
        ][:TEST_ROWS],
    }
    inside = model.score_samples(T) / [len(text) + 1 for text in T]
    usual = familiarity(model, T)
    for name, foreign in others.items():
        outside = model.score_samples(foreign) / [len(text) + 1 for text in foreign]
        kind = np.r_[np.ones(len(T)), np.zeros(len(foreign))]
        by_log_p = roc_auc_score(kind, np.r_[inside, outside])
        by_rank = roc_auc_score(kind, np.r_[usual, familiarity(model, foreign)])
        print(f"{name}: AUROC {by_log_p:.4f} by log p, {by_rank:.4f} by familiarity")


# ------------------------------------------------------------------------------------------ decode


@torch.no_grad()
def decode(options):
    space = space_of(range(65), options.tokens + 1)
    noise = stream(options.seed, "decode")
    density = SequenceDensity.build(space, Sequence(size=1), space.unknown(1), noise)
    for parameter in density.parameters():  # as if it had learned: the last layers begin at zero
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=noise, dtype=torch.float64))
    count = sum(parameter.numel() for parameter in density.parameters())

    def cached(begin):
        state = begin(1, Record())
        tokens = []
        for _ in range(options.tokens):
            state, log_p = density._step(state, tokens[-1] if tokens else None)
            tokens.append(log_p[:, :-1].argmax(1))
        return torch.cat(tokens)

    def whole():
        tokens = torch.zeros(1, 0, dtype=torch.int64)
        told = density.begin(1).context
        for _ in range(options.tokens):
            log_p = density.net(tokens, told)[:, -1, :-1]
            tokens = torch.cat([tokens, log_p.argmax(1)[:, None]], 1)
        return tokens[0]

    drawn, fast = quickest(lambda: cached(density._begin_draws))
    stepped, exact = quickest(lambda: cached(density._begin))
    known, slow = quickest(whole)
    same = bool((drawn == known).all() and (stepped == known).all())
    print(
        f"{count:,} parameters, {options.tokens} tokens: {options.tokens / fast:,.0f} a CPU s for "
        f"draws, {options.tokens / exact:,.0f} for log p, {options.tokens / slow:,.0f} without a "
        f"cache; the same tokens: {same}"
    )
    peer(options.tokens)


def quickest(work):
    """What ``work`` gives, and the CPU seconds of the quickest of a few times."""
    each = [cpu(work) for _ in range(TIMES)]
    return each[0][0], min(seconds for _, seconds in each)


def peer(tokens):
    """transformers' ``generate`` with its cache."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        print("transformers is not installed")
        return
    config = LlamaConfig(
        vocab_size=66,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=5,
        num_attention_heads=4,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    count = sum(parameter.numel() for parameter in model.parameters())
    start = torch.ones(1, 1, dtype=torch.int64)

    def generated():
        return model.generate(start, max_new_tokens=tokens, do_sample=False)

    found, seconds = quickest(generated)
    print(f"transformers: {count:,} parameters, {(found.shape[1] - 1) / seconds:,.0f} a CPU s")


# -------------------------------------------------------------------------------------- throughput


class PlainLayer(nn.Module):
    """Causal attention, then a network of each position."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h):
        each = self.qkv(self.before(h)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(*each, is_causal=True)
        h = h + self.out(seen.transpose(1, 2).flatten(2))
        return h + self.down(nn.functional.gelu(self.up(self.between(h))))


class PlainGPT(nn.Module):
    """(B, T) tokens -> (B, T, V) logits of the next."""

    def __init__(self, tokens, places, width, layers, heads):
        super().__init__()
        self.embed, self.place = nn.Embedding(tokens, width), nn.Embedding(places, width)
        self.layers = nn.Sequential(*(PlainLayer(width, heads) for _ in range(layers)))
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, tokens, bias=False)
        self.last.weight = self.embed.weight

    def forward(self, token):
        h = self.embed(token) + self.place.weight[: token.shape[1]]
        return self.last(self.norm(self.layers(h)))


def throughput(options):
    text = load_texts("tinyshakespeare").strings["train"][0]
    code = {character: place for place, character in enumerate(sorted(set(text)))}
    codes = torch.tensor([code[c] for c in text[: options.batch * WINDOW]]).reshape(-1, WINDOW)
    works = {}
    for precision in PRECISIONS:
        works[f"ours, {precision}"] = our_step(codes, code, options, precision)
        works[f"plain GPT, {precision}"] = plain_step(codes, code, options, precision)
    for work, _ in works.values():  # what is allocated once
        work()
    seconds = {name: [] for name in works}
    for _ in range(TIMES):
        for name, (work, _) in works.items():
            seconds[name].append(cpu(lambda work=work: [work() for _ in range(TIMED_STEPS)])[1])
    for name, (_, count) in works.items():
        speed = TIMED_STEPS * codes.numel() / min(seconds[name])
        print(f"{name}: {count:,} parameters, {speed:,.0f} tokens a CPU s of learning")


def our_step(codes, code, options, precision):
    """A step of the gradient, and how many parameters there are."""
    space = space_of(code, WINDOW)
    rows = space.check(Event(codes))
    config = Sequence(size=options.size, batch=options.batch, precision=precision)
    density = SequenceDensity.build(space, config, rows, stream(options.seed, "build"))
    learner = Gradient(density, config.recipe(rows.rows))
    learner.begin()
    batch = Batch(rows, torch.ones(rows.rows, dtype=torch.float64), float(rows.rows))
    count = sum(parameter.numel() for parameter in density.parameters())
    return partial(learner.step, batch, stream(options.seed, "step"), 0.0), count


def plain_step(codes, code, options, precision):
    width, layers = Sequence(size=options.size).shape
    torch.manual_seed(options.seed)
    model = PlainGPT(len(code), WINDOW, width, layers, PLAIN_HEADS)
    moved = torch.optim.AdamW(model.parameters(), 1e-3, (0.9, 0.99), weight_decay=0.1, fused=True)

    def step():
        with computing_in(precision):
            logits = model(codes[:, :-1]).float()
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), codes[:, 1:].flatten())
        moved.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        moved.step()

    return step, sum(parameter.numel() for parameter in model.parameters())


COMMANDS = {
    "shakespeare": shakespeare,
    "agnews": agnews,
    "decode": decode,
    "throughput": throughput,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("what", choices=list(COMMANDS))
    parser.add_argument("--seconds", type=float, default=2400.0)
    parser.add_argument("--checkpoint")
    parser.add_argument("--wall", type=float, help="seconds by the clock, for a shared machine")
    parser.add_argument("--size", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--rows", type=int, default=10_001)
    parser.add_argument("--labels", type=int)
    parser.add_argument("--family", default="ngram")
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    COMMANDS[options.what](options)


if __name__ == "__main__":
    main()
