"""The demo CLIP during training: open_clip's own model over the tokens that the world uses."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from config import CONTEXT_LENGTH, MEAN, MODEL_CONFIG, STD, TRAINED_TOKENS, VOCABULARY_SIZE
from dictionary import all_texts
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer

State = dict[str, torch.Tensor]
_EMBEDDING, _POSITIONS = "token_embedding.weight", "positional_embedding"


def used_tokens() -> np.ndarray:
    """Return the sorted ids of every token that the world's texts need, with padding, start and end."""
    tokenizer = SimpleTokenizer(context_length=TRAINED_TOKENS)
    used = {0, VOCABULARY_SIZE - 2, VOCABULARY_SIZE - 1}
    for text in all_texts():
        used.update(tokenizer.encode(text))
    return np.array(sorted(used))


def build(vocabulary: int) -> CLIP:
    """Build the CLIP with open_clip's constructor, the given number of token rows and training's short context."""
    config: dict[str, Any] = copy.deepcopy(MODEL_CONFIG)
    config["text_cfg"].update(vocab_size=vocabulary, context_length=TRAINED_TOKENS)
    return CLIP(**config)


def widen(state: State, used: np.ndarray) -> State:
    """Return the state over the full vocabulary and context: trained rows in their places, all others zero."""
    width = state[_EMBEDDING].shape[1]
    rows, places = torch.zeros(VOCABULARY_SIZE, width), torch.zeros(CONTEXT_LENGTH, width)
    rows[torch.from_numpy(used)] = state[_EMBEDDING].float()
    places[:TRAINED_TOKENS] = state[_POSITIONS].float()
    return state | {_EMBEDDING: rows, _POSITIONS: places}


def normalised(pictures: np.ndarray) -> torch.Tensor:
    """Turn (n, H, W, 3) uint8 pictures into the (n, 3, H, W) float32 that the vision tower takes."""
    values = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float() / 255
    return (values - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


class Texts:
    """Turns captions into rows of compact token numbers; the end token keeps the highest number."""

    def __init__(self, used: np.ndarray) -> None:
        self._tokenizer = SimpleTokenizer(context_length=TRAINED_TOKENS)
        self._place = np.zeros(VOCABULARY_SIZE, np.int64)
        self._place[used] = np.arange(len(used))

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """Return (n, training's tokens) int64."""
        return torch.from_numpy(self._place[self._tokenizer(texts).numpy()])
