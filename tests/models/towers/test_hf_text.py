"""Text towers of transformers inside open_clip: texts embed whatever they are padded to; NLLB's heads are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import headscan as hs
from architectures import shrunk
from headscan.common.vectors import normalise
from headscan.models.text import encode_tokens, join, tokenize

NAMES = (
    "roberta-ViT-B-32",
    "xlm-roberta-base-ViT-B-32",
    "mt5-base-ViT-B-32",
    "nllb-clip-base",
    "coca_roberta-ViT-B-32",
)


def ids_of(texts, *, length=8):
    """Return token ids of made-up words, one for each letter, padded with 0."""
    rows = [[1, *(2 + ord(letter) % 50 for letter in text[: length - 2]), 63] for text in texts]
    return torch.tensor([row + [0] * (length - len(row)) for row in rows])


@pytest.mark.parametrize("name", NAMES)
def test_texts_embed_as_the_model_embeds_them_unpadded(name):
    module = shrunk(name)
    model = hs.load_model(module, tokenizer=ids_of)
    texts = ["cat", "a dog", "horse"]
    embedded = model.encode_text(texts)
    for text, row in zip(texts, embedded, strict=True):
        with torch.no_grad():
            alone = module.text(ids_of([text], length=len(text) + 2))
        alone = alone[0] if isinstance(alone, tuple) else alone
        np.testing.assert_allclose(normalise(row[None]), normalise(alone.numpy()), atol=1e-5)  # CoCa's are normalised


@pytest.mark.parametrize("name", NAMES)
def test_its_vision_heads_are_explained_with_a_dictionary_of_its_texts(name):
    model = hs.load_model(shrunk(name), tokenizer=ids_of)
    dictionary = hs.load_dictionary(["cat", "dog", "fish", "bird", "tree", "house"], model=model, cache=False)
    table = hs.scan(model, dictionary, layers=[-1], k=2, significance=0).table()
    assert len(table) == model.heads * model.rank * 2


@pytest.mark.parametrize("name", [name for name in NAMES if name != "nllb-clip-base"])
def test_heads_of_towers_that_end_otherwise_are_refused_by_name(name):
    model = hs.load_model(shrunk(name), tokenizer=ids_of)
    with pytest.raises(hs.HeadscanError, match="its texts make dictionaries, its heads cannot be read"):
        model.get_tower("text")


def test_what_texts_are_joined_with_behind_their_ends_is_not_read():
    """Parts of different lengths are joined with zeros, which are a word of some tokenizers."""
    module = shrunk("roberta-ViT-B-32")
    module.text.config.pad_token_id = module.text.transformer.embeddings.padding_idx = 5
    model = hs.load_model(module, tokenizer=lambda texts: ids_of(texts).masked_fill(ids_of(texts) == 0, 5))
    joined = join([tokenize(module, model.tokenizer, [text]).trimmed() for text in ("cat", "horses")])
    assert joined.own_lengths
    assert joined.ids[0].tolist()[5:] == [0, 0, 0]
    ((order, made),) = encode_tokens(module, joined, batch_size=2)
    np.testing.assert_allclose(made[list(order).index(0)], model.encode_text(["cat"])[0], atol=1e-5)
