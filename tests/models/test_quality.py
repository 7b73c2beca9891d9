import pytest
import torch
import torch.nn.functional as F

from diffusion_text.data.text_files import TextFiles
from diffusion_text.data.tokens import pad
from diffusion_text.diagnostics.collapse import collapse_alarms
from diffusion_text.models.quality import Judge
from diffusion_text.models.tokenizers import CharacterTokenizer


@pytest.fixture(scope="module")
def corpus(words_file, tmp_path_factory):
    """The tokenizer and the splits of a corpus of characters, `<s>` and `</s>` around each text."""
    data = TextFiles(str(tmp_path_factory.mktemp("cache")), length=40, dir=str(words_file))
    tokenizer = CharacterTokenizer().build(data)
    return tokenizer, data.tokens(tokenizer)


@pytest.fixture(scope="module")
def judge(corpus):
    tokenizer, splits = corpus
    return Judge(splits, tokenizer)


@pytest.fixture
def real(corpus):
    """Twenty texts of the test split."""
    tokenizer, splits = corpus
    return pad(list(splits["test"][:20]["tokens"]), tokenizer.pad_token_id)[0]


def shuffled(tokens, tokenizer):
    """The same characters in another order."""
    ordinary = tokens >= len(tokenizer.all_special_ids)
    drawn = tokens.clone()
    drawn[ordinary] = tokens[ordinary][torch.randperm(int(ordinary.sum()))]
    return drawn


def test_special_tokens_do_not_count(judge, corpus, real):
    tokenizer, _ = corpus
    bare = [text[text >= len(tokenizer.all_special_ids)] for text in real]
    padded = pad(bare, tokenizer.pad_token_id)[0]
    masked = F.pad(padded, (3, 2), value=tokenizer.mask_token_id)
    for other in (padded, masked):
        assert judge(other).figures == judge(real).figures


def test_real_text_is_judged_better_than_the_same_characters_shuffled(judge, corpus, real):
    good, bad = judge(real).figures, judge(shuffled(real, corpus[0])).figures
    assert good["judge_nll"] < 0.5 * bad["judge_nll"]
    assert good["memorised"] > 0.2 > bad["memorised"]
    assert good["unigram_kl"] == bad["unigram_kl"]


def test_characters_drawn_one_by_one_have_the_corpus_frequencies_and_no_more(judge, corpus, real):
    drawn = judge.unigrams(real.repeat(5, 1), seed=0)
    special = torch.isin(real.repeat(5, 1), torch.tensor(corpus[0].all_special_ids))
    assert torch.equal(drawn[special], real.repeat(5, 1)[special])
    figures, good = judge(drawn).figures, judge(real).figures
    assert figures["unigram_kl"] < 0.05
    assert figures["judge_nll"] > 2 * good["judge_nll"]
    assert torch.equal(judge.unigrams(real, seed=1), judge.unigrams(real, seed=1))
    assert not torch.equal(judge.unigrams(real, seed=1), judge.unigrams(real, seed=2))


def test_trigrams_follow_the_training_split_and_no_further(judge, corpus, real):
    """Each token follows the two before it somewhere in training; the judge is pleased, five tokens are not."""
    like = real.repeat(5, 1)
    drawn = judge.trigrams(like, seed=0)
    special = torch.isin(like, torch.tensor(corpus[0].all_special_ids))
    assert torch.equal(drawn[special], like[special])
    known = {tuple(text[i : i + 3].tolist()) for text in judge.texts for i in range(len(text) - 2)}
    texts = [text[~torch.isin(text, judge.special)].tolist() for text in drawn]
    found = [tuple(text[i : i + 3]) in known for text in texts for i in range(len(text) - 2)]
    assert sum(found) > 0.9 * len(found), "only where a training text ended is another begun"
    unigrams, trigrams, good = (judge(t).figures["judge_nll"] for t in (judge.unigrams(like, 0), drawn, real))
    assert unigrams > trigrams > good
    assert torch.equal(judge.trigrams(real, seed=1), judge.trigrams(real, seed=1))
    assert not torch.equal(judge.trigrams(real, seed=1), judge.trigrams(real, seed=2))


def test_nonsense_is_seen_through_by_some_figure(judge, real):
    nonsense = {name: judge(them).figures for name, them in judge.nonsense(real, seed=0).items()}
    good = judge(real).figures
    assert nonsense["one text"]["judge_nll"] < 1.5 * good["judge_nll"]
    assert nonsense["one text"]["unique_texts"] == pytest.approx(1 / len(real))
    assert nonsense["copied"]["judge_nll"] < good["judge_nll"]
    assert nonsense["copied"]["memorised"] == 1


@pytest.mark.parametrize("count", [3, 10_000])
def test_real_texts_are_taken_from_all_over_a_split(judge, corpus, count):
    tokenizer, splits = corpus
    texts = [text.tolist() for text in splits["validation"]["tokens"]]
    taken = [
        [token for token in text.tolist() if token != tokenizer.pad_token_id]
        for text in judge.real("validation", count)
    ]
    assert len(taken) == min(count, len(texts))
    assert [taken[0], taken[1], taken[-1]] == [texts[0], texts[1 if count > 3 else len(texts) // 2 - 1], texts[-1]]


def test_commas_and_nothing_but_special_tokens_raise_alarms_and_real_text_does_not(judge, corpus, real):
    """As the collapse monitor puts the two together."""
    tokenizer, _ = corpus
    [letter] = tokenizer("e", add_special_tokens=False).input_ids

    def alarms(tokens):
        found, held_against = judge(tokens), judge(judge.real("validation", 20))
        return {a.name: a for a in collapse_alarms(found.figures, held_against.figures, found.most_frequent, 1.0)}

    assert alarms(real) == {}
    collapsed = alarms(torch.full_like(real, letter))
    assert set(collapsed) == {"collapse/unigram", "collapse/repetition"}
    assert collapsed["collapse/unigram"].measured.startswith("'e' is 100% of the tokens")
    assert set(alarms(torch.full_like(real, tokenizer.mask_token_id))) == {"collapse/special"}


def test_of_a_large_corpus_the_judge_counts_blocks_from_all_over_it(corpus, judge, monkeypatch):
    tokenizer, splits = corpus
    monkeypatch.setattr("diffusion_text.models.quality.COUNTED", 2_000)
    monkeypatch.setattr("diffusion_text.models.quality.BLOCK", 10)
    few = Judge(splits, tokenizer)
    assert 1_500 < sum(map(len, few.texts)) < 2_500 < sum(map(len, judge.texts))
    everything, some = ([text.tolist() for text in each.texts] for each in (judge, few))
    assert some[:10] == everything[:10]
    assert some[-1] == everything[-1]
    starts = [place for place in range(0, len(everything), 10) if everything[place : place + 10] == some[10:20]]
    assert starts
    assert starts[0] > 10
