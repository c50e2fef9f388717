r"""A pretrained encoder of texts, from a local folder: a vector of each text.

    v(x) = sum_t h_t(x) / |sum_t h_t(x)|

h_t is the last hidden layer at token t (N. Reimers and I. Gurevych (2019), Sentence-BERT, section
3, with the mean over tokens). The weights stay as they are, are read from safetensors alone, and no
code of the folder is run. No unit.

Shape letters: B texts, T tokens of the longest, F features.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conjoin.core.shapes import Float
from conjoin.nets.pretrained import config_in, loaded, tokenizers

__all__ = ["TextEncoder"]

MAKER = "AutoModel"
CHUNK_TEXTS = 64  # that the network sees at once


class TextEncoder:
    """A frozen encoder of texts.

    Parameters
    ----------
    folder
        With config.json, tokenizer.json and weights in safetensors, such as all-MiniLM-L6-v2.

    Raises
    ------
    ImportError
        If the extra is not installed: ``pip install 'conjoin[pretrained]'``.
    ValueError
        If the folder is no such network, or holds a pickle or code.
    """

    def __init__(self, folder: str | Path) -> None:
        told = config_in(str(folder))
        file = Path(folder).expanduser() / "tokenizer.json"
        if not file.is_file():
            raise ValueError(f"{folder} has no tokenizer.json, without which no text is read.")
        self.net: Any = loaded(MAKER, str(folder), told, "float32").requires_grad_(False)
        self.tokenizer = tokenizers().Tokenizer.from_str(file.read_text(encoding="utf-8"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.most = int(told.get("max_position_embeddings", 512))

    @torch.no_grad()
    def vectors(self, texts: Sequence[str]) -> Float[Tensor, "B F"]:
        """A vector of length 1 of each text, float32; ValueError for one that is too long."""
        codes = [self.tokenizer.encode(text).ids for text in texts]
        for text, each in zip(texts, codes, strict=True):
            if len(each) > self.most:
                raise ValueError(
                    f"The text {text[:60]!r} has {len(each):,} tokens, and the encoder reads at "
                    f"most {self.most:,}: cut it into parts."
                )
        parts = [self._of(codes[at : at + CHUNK_TEXTS]) for at in range(0, len(codes), CHUNK_TEXTS)]
        return torch.cat([torch.zeros(0, int(self.net.config.hidden_size)), *parts])

    def _of(self, codes: list[list[int]]) -> Float[Tensor, "B F"]:
        longest = max(1, *map(len, codes), 1)
        tokens = torch.tensor([each + [0] * (longest - len(each)) for each in codes])
        known = torch.arange(longest) < torch.tensor(list(map(len, codes)))[:, None]
        seen = self.net(input_ids=tokens, attention_mask=known.long()).last_hidden_state
        summed = (seen * known[..., None]).sum(1)
        return torch.nn.functional.normalize(summed, dim=1)
