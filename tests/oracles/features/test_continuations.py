"""Where the prompt ends, the continuation begins, and what stands for nothing."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from oracles import InputError
from oracles.features import CausalOracle, LoadedModel, load_model
from oracles.features.answers.continuations import encoder_of
from oracles.features.passes.generation import end_tokens, generate
from oracles.features.prompts.prompt import text_prompt

STORY = "Maria works at the bakery. The bakery is in Oslo. Tom is in Lima."
QUESTION = "In which city? Answer:"
ALL = np.ones((1, 3), bool)


def random_model(tokenizer: transformers.PreTrainedTokenizerFast) -> LoadedModel:
    torch.manual_seed(2)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    return LoadedModel(model, tokenizer, "random", "causal-lm")


def log_probability(loaded: LoadedModel, ids: list[int], tail: int) -> float:
    """Of the last `tail` tokens given those before, from all logits at once."""
    with torch.no_grad():
        logits = loaded.model(torch.tensor([ids])).logits[0].double()
    steps = logits.log_softmax(-1)[:-1][-tail:]
    return sum(float(step[i]) for step, i in zip(steps, ids[-tail:], strict=True))


def asked(
    loaded: LoadedModel,
    text: str = STORY,
    suffix: str = "",
    segments: str = "sentence",
    **settings: Any,
) -> CausalOracle:
    """The oracle of a text, and then a suffix that is always kept."""
    prompt = text_prompt(text, loaded.tokenizer, segments=segments, suffix=suffix)
    return CausalOracle(prompt, loaded, **settings)


def value(loaded: LoadedModel, text: str = STORY, **settings: Any) -> float:
    oracle = asked(loaded, text, **settings)
    masks = np.ones((1, len(oracle.players)), bool)
    return float(oracle.evaluate(masks)[0, 0])


@pytest.fixture(scope="module")
def marked() -> LoadedModel:
    """A tokenizer that writes a space in front of all it encodes, as Llama 2's."""
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=90, special_tokens=["<unk>", "<s>"], show_progress=False
    )
    raw.train_from_iterator([STORY, QUESTION, "Oslo", "Lima"] * 3, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", model_max_length=99
    )
    return random_model(tokenizer)


@pytest.mark.parametrize("words", ["Oslo", " Oslo"])
def test_no_second_space_is_scored_where_the_tokenizer_adds_one(
    marked: LoadedModel, words: str
) -> None:
    together = marked.tokenizer(f"{STORY} {QUESTION} Oslo")["input_ids"]
    tail = len(together) - len(marked.tokenizer(f"{STORY} {QUESTION}")["input_ids"])
    found = value(marked, suffix=QUESTION, continuation=words)
    assert found == pytest.approx(log_probability(marked, together, tail))


def test_a_continuation_within_a_word_is_encoded_alone(causal: str) -> None:
    loaded = load_model(causal)
    oracle = asked(loaded, STORY + " Answer(", continuation="Oslo")
    assert oracle.description["scored"] == ["Oslo"]
    ids = [loaded.tokenizer(part)["input_ids"] for part in (STORY + " Answer(", "Oslo")]
    expected = log_probability(loaded, ids[0] + ids[1], len(ids[1]))
    assert oracle.evaluate(np.ones((1, 4), bool))[0, 0] == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize(
    ("suffix", "words", "scored"),
    [
        ("Answer:", "Oslo", " Oslo"),
        ("Answer: ", "Oslo", " Oslo"),
        ("Answer:\n", "Oslo", "\nOslo"),
        ('Answer: "', "Oslo", "Oslo"),
        ("Answer:", ", or", ", or"),
    ],
)
def test_the_description_says_what_is_scored(
    causal: str, suffix: str, words: str, scored: str
) -> None:
    oracle = asked(load_model(causal), suffix=suffix, continuation=words)
    assert oracle.description["scored"] == [scored]
    assert oracle.description["continuation"] == words.strip()


def test_the_default_continuation_has_the_greedy_answers_own_tokens(
    causal: str, marked: LoadedModel
) -> None:
    for loaded in (load_model(causal), marked):
        for end in ("", "\n", " "):
            oracle = asked(loaded, suffix=QUESTION + end)
            likely = math.exp(oracle.evaluate(ALL)[0, 0])
            told = oracle.description["prediction_probability"]
            assert likely == pytest.approx(told, rel=1e-4)


@pytest.mark.parametrize("gap", ["", "\n", " "])
def test_no_ablation_changes_what_stands_between_text_and_suffix(
    causal: str, gap: str
) -> None:
    loaded = load_model(causal)
    oracle = asked(loaded, STORY + gap, suffix=QUESTION, continuation="Oslo")
    found = oracle.evaluate(np.array([[True, True, False]]))[0, 0]
    shorter = STORY.removesuffix(" Tom is in Lima.") + gap
    assert found == pytest.approx(
        value(loaded, shorter, suffix=QUESTION, continuation="Oslo"), abs=1e-5
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "b"), ("Oslo", "Lima"), ("Oslo", "Oslo bakery"), ("a b", "a c")],
)
def test_an_alternative_is_the_difference_however_their_tokens_agree(
    causal: str, first: str, second: str
) -> None:
    loaded = load_model(causal)
    masks = np.random.default_rng(0).random((9, 14)) < 0.5

    def values(**settings: str) -> np.ndarray:
        return asked(loaded, suffix=QUESTION, segments="word", **settings).evaluate(
            masks
        )

    both = values(continuation=first, alternative=second)
    apart = values(continuation=first) - values(continuation=second)
    assert np.allclose(both, apart, atol=1e-5)


def test_batches_of_any_size_give_the_same_values(causal: str) -> None:
    loaded = load_model(causal)
    masks = np.random.default_rng(1).random((20, 14)) < 0.5
    masks[0] = False
    found = [
        asked(loaded, continuation="Oslo", segments="word", batch_size=size).evaluate(
            masks
        )
        for size in (1, 3, 64)
    ]
    assert np.allclose(found[0], found[1], atol=1e-5)
    assert np.allclose(found[0], found[2], atol=1e-5)


def with_special(
    tokenizer: transformers.PreTrainedTokenizerFast, **special: str
) -> LoadedModel:
    return random_model(
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer.backend_tokenizer,
            model_max_length=128,
            **special,
        )
    )


@pytest.mark.parametrize("kind", ["eos_token", "pad_token"])
def test_without_a_beginning_token_only_the_empty_prompt_gets_another(
    causal_tokenizer: transformers.PreTrainedTokenizerFast, kind: str
) -> None:
    loaded = with_special(causal_tokenizer, **{kind: "</s>"})
    oracle = asked(loaded, continuation="Oslo")
    found = oracle.evaluate(np.array([[False] * 3, [True, False, False]]))[:, 0]
    end = loaded.tokenizer.convert_tokens_to_ids("</s>")
    tail = loaded.tokenizer(" Oslo")["input_ids"]
    first = loaded.tokenizer("Maria works at the bakery.")["input_ids"]
    assert found == pytest.approx(
        [
            log_probability(loaded, [*start, *tail], len(tail))
            for start in ([end], first)
        ],
        abs=1e-5,
    )


def test_without_any_special_token_a_suffix_is_needed(
    causal_tokenizer: transformers.PreTrainedTokenizerFast,
) -> None:
    loaded = with_special(causal_tokenizer)
    with pytest.raises(InputError, match="Give a prefix or suffix"):
        asked(loaded, continuation="Oslo")
    oracle = asked(loaded, suffix=QUESTION, continuation="Oslo")
    assert np.isfinite(oracle.evaluate(~ALL)).all()


def test_a_continuation_without_tokens_is_refused() -> None:
    raw = Tokenizer(models.BPE())
    letters = trainers.BpeTrainer(show_progress=False, special_tokens=["<s>"])
    raw.train_from_iterator([STORY], letters)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", model_max_length=128
    )
    with pytest.raises(InputError, match=r"no tokens.*other words"):
        asked(random_model(tokenizer), STORY + '"', continuation="☃")


def test_a_greedy_answer_that_is_nothing_asks_for_a_target(
    causal_tokenizer: transformers.PreTrainedTokenizerFast,
) -> None:
    loaded = random_model(causal_tokenizer)
    with torch.no_grad():  # every logit is 0 but the end's
        loaded.model.lm_head.weight.zero_()
        loaded.model.model.norm.weight.zero_()
    end = int(loaded.model(torch.tensor([[0]])).logits[0, -1].argmax())
    loaded.tokenizer.eos_token = loaded.tokenizer.convert_ids_to_tokens(end)
    with pytest.raises(InputError, match="answers nothing"):
        asked(loaded)


def test_another_prompt_answer_or_value_is_another_fingerprint(causal: str) -> None:
    loaded = load_model(causal)
    base = {"suffix": QUESTION, "continuation": "Oslo"}
    changes: list[dict[str, str]] = [
        {},
        {"suffix": "Which city? Answer:"},
        {"continuation": "Lima"},
        {"continuation": "\nOslo"},
        {"alternative": "Lima"},
        {"value": "log-odds"},
        {"segments": "word"},
    ]
    prints = [asked(loaded, **(base | change)).fingerprint for change in changes]
    assert len(set(prints)) == len(changes)
    same = asked(loaded, **base, batch_size=2)
    assert same.fingerprint == prints[0]
    assert asked(loaded, continuation="Oslo").fingerprint not in prints


def with_front(
    tokenizer: transformers.PreTrainedTokenizerFast, front: str, **special: str
) -> LoadedModel:
    """A model whose tokenizer puts such tokens before a text, as "<s> $A" says."""
    raw = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    names = front.split()[:-1]
    raw.add_special_tokens(names)
    raw.post_processor = processors.TemplateProcessing(
        single=front, special_tokens=[(name, raw.token_to_id(name)) for name in names]
    )
    return random_model(
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=raw, model_max_length=128, **special
        )
    )


BOS = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize(
    ("front", "special"),
    [
        ("<s> $A", BOS),
        ("$A", BOS),  # as GPT-2 does: it has a beginning token and adds none
        ("[gMASK] <sop> $A", {"eos_token": "</s>"}),  # as GLM does
    ],
)
def test_in_front_of_a_prompt_stands_what_the_tokenizer_puts_there(
    causal_tokenizer: transformers.PreTrainedTokenizerFast,
    front: str,
    special: dict[str, str],
) -> None:
    loaded = with_front(causal_tokenizer, front, **special)
    text = f"{STORY} {QUESTION}"
    own, tail = (
        loaded.tokenizer(text)["input_ids"],
        loaded.tokenizer.encode(" Oslo", add_special_tokens=False),
    )
    expected = log_probability(loaded, [*own, *tail], len(tail))
    found = value(loaded, suffix=QUESTION, continuation="Oslo")
    assert found == pytest.approx(expected, abs=1e-5)
    written = "".join(front.split()[:-1])
    for prefix in (written, written + "\n"):
        rendered = text_prompt(STORY, prefix=prefix, suffix=QUESTION)
        [whole] = rendered.write_all(ALL)
        ids = loaded.tokenizer.encode(whole, add_special_tokens=False)
        oracle = CausalOracle(rendered, loaded, continuation="Oslo")
        expected = log_probability(loaded, [*ids, *tail], len(tail))
        assert oracle.evaluate(ALL)[0, 0] == pytest.approx(expected, abs=1e-5)
    nothing = asked(loaded, continuation="Oslo").evaluate(~ALL)[0, 0]
    known = loaded.tokenizer.get_vocab()
    start = loaded.tokenizer("")["input_ids"] or [known["<s>"]]
    expected = log_probability(loaded, [*start, *tail], len(tail))
    assert nothing == pytest.approx(expected, abs=1e-5)


def test_the_embedded_model_begins_as_it_was_trained_to() -> None:
    tokenizer = load_model("facts").tokenizer
    encoder = encoder_of(tokenizer, "", is_rendered=False)
    assert encoder.prompts([STORY]) == [tuple(tokenizer(STORY)["input_ids"])]
    assert encoder.prompts([""]) == [(tokenizer.bos_token_id,)]


def sentence_pieces(words: list[str]) -> transformers.PreTrainedTokenizerFast:
    """Pieces as SentencePiece makes them: a text begins with a space of its own."""
    raw = Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    raw.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=60,
        special_tokens=["<s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    raw.train_from_iterator(words, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", unk_token="<unk>", model_max_length=99
    )


def test_no_second_space_is_scored_where_a_token_would_cross_the_border() -> None:
    tokenizer = sentence_pieces([STORY, 'Answer("Oslo")', '("Oslo', "Oslo"] * 9)
    # one piece is of the prompt's last character and the continuation's first
    raw = tokenizer.backend_tokenizer
    vocabulary = [f"{a}{b}" for a in '("' for b in "OL"]
    raw.add_tokens([word for word in vocabulary if raw.token_to_id(word) is None])
    loaded = random_model(tokenizer)
    text = STORY + ' Answer("'
    crossing = tokenizer(text + "Oslo", return_offsets_mapping=True)["offset_mapping"]
    assert any(start < len(text) < end for start, end in crossing)
    oracle = asked(loaded, text, continuation="Oslo", per_token=True)
    assert oracle.description["scored"] == ["Oslo"]
    [scored] = oracle._scored
    ids = [*tokenizer(text)["input_ids"], *scored.tokens]
    assert tokenizer.decode(ids) == text + "Oslo"
    assert "".join(scored.pieces) == "Oslo"


@pytest.mark.parametrize("names", [1, 2])
def test_an_answer_ends_at_every_token_that_the_model_names(
    causal: str, names: int
) -> None:
    loaded = load_model(causal)
    tokens = asked(loaded, suffix=QUESTION)._scored[0].tokens
    [ids] = asked(loaded, suffix=QUESTION)._encoder.prompts([f"{STORY} {QUESTION}"])
    end = next(i for i, token in enumerate(tokens) if token not in tokens[:i] and i)
    settings = loaded.model.generation_config
    own = settings.eos_token_id
    settings.eos_token_id = tokens[end] if names == 1 else [0, tokens[end]]
    try:
        assert set(end_tokens(loaded)) >= {tokens[end], loaded.tokenizer.eos_token_id}
        assert asked(loaded, suffix=QUESTION)._scored[0].tokens == tokens[:end]
        words = loaded.tokenizer.decode(tokens[:end], skip_special_tokens=True)
        assert generate(loaded, [ids], 16) == [words]
        settings.eos_token_id = [tokens[0]]
        with pytest.raises(InputError, match="answers nothing"):
            asked(loaded, suffix=QUESTION)
    finally:
        settings.eos_token_id = own


@pytest.mark.parametrize("words", ["Oslo, by the sea. " * 9, "🙂 Ōslo 東京 " * 5])
def test_pieces_are_those_of_decoding_the_whole_prompt(
    causal_tokenizer: transformers.PreTrainedTokenizerFast, words: str
) -> None:
    both = (causal_tokenizer, sentence_pieces([STORY, "Oslo, by the sea"] * 9))
    for tokenizer in both:
        encoder = encoder_of(tokenizer, "", is_rendered=False)
        [before] = encoder.prompts([STORY])
        tokens = encoder.continuation(STORY, words).tokens
        pieces = encoder.pieces(STORY, tokens)
        done = tokenizer.decode(before, skip_special_tokens=True)
        for count, piece in enumerate(pieces, start=1):
            known = [*before, *tokens[:count]]
            whole = tokenizer.decode(known, skip_special_tokens=True)
            if whole.endswith("\ufffd") and count < len(tokens):
                assert piece == ""
            else:
                assert piece == whole[len(done) :]
                done = whole
