"""Text metrics: cases counted by hand, second implementations, and the variants that their names say."""

from __future__ import annotations

import math
import random
import shutil
import sys
from collections import Counter

import pytest

from pipeline.errors import SetupError
from pipeline.evaluate.text_metrics import Meteor, check_text_metrics, measure_texts, split_words

REFERENCES = [
    "A man in black pushes another man, and both of them fall to the ground.",
    "Two cars collide at the crossing. One of them burns.",
    "People walk along the pavement.",
]
PREDICTIONS = [
    "A man pushes another man to the ground.",
    "Two cars collide at a crossing and one of them burns down.",
    "A dog runs across the street.",
]


def test_words_are_those_of_the_treebank_without_punctuation() -> None:
    assert split_words('He said: "It\'s (not) a bike." Then he left!') == [
        "he", "said", "it", "'s", "not", "a", "bike", "then", "he", "left",
    ]  # fmt: skip
    assert split_words(" \n ") == []


def test_bleu_agrees_with_nltk() -> None:
    from nltk.translate.bleu_score import corpus_bleu

    wanted = [[split_words(text)] for text in REFERENCES]
    given = [split_words(text) for text in PREDICTIONS]
    found = measure_texts(REFERENCES, PREDICTIONS)
    expected = [corpus_bleu(wanted, given, weights=(1 / n,) * n) for n in range(1, 5)]
    assert (found.bleu_1, found.bleu_2, found.bleu_3, found.bleu_4) == pytest.approx(expected, abs=1e-6)
    assert found.bleu == pytest.approx(sum(expected), abs=1e-6)


def test_rouge_l_by_hand() -> None:
    # longest common subsequence "a man the ground": 4 of 5 words given, 4 of 8 wanted
    found = measure_texts(["a man falls down on to the ground"], ["a big man the ground"])
    precision, recall, beta2 = 4 / 5, 4 / 8, 1.2**2
    assert found.rouge_l == pytest.approx((1 + beta2) * precision * recall / (recall + beta2 * precision))


def test_meteor_by_hand() -> None:
    # "walking" meets "walks" by its stem: 3 matches in 2 chunks of 4 words given, 5 wanted
    found = measure_texts(["the man walks by slowly"], ["the woman walking by"])
    precision, recall, chunks = 3 / 4, 3 / 5, 2
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    assert found.meteor == pytest.approx(mean * (1 - 0.5 * (chunks / 3) ** 3))
    assert found.meteor_variant == "stem"


def cider_d(references: list[list[str]], predictions: list[list[str]]) -> float:
    """CIDEr-D (Vedantam, CVPR 2015), written from the paper, one reference each."""

    def grams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    total = 0.0
    for wanted, given in zip(references, predictions, strict=True):
        for n in range(1, 5):
            documents = Counter(gram for words in references for gram in grams(words, n))
            holds = Counter(gram for words in references for gram in set(grams(words, n)))
            assert documents.keys() == holds.keys()

            def weights(
                words: list[str], n: int = n, holds: Counter[tuple[str, ...]] = holds
            ) -> dict[tuple[str, ...], float]:
                return {
                    gram: count * math.log(len(references) / max(1, holds[gram]))
                    for gram, count in grams(words, n).items()
                }

            a, b = weights(given), weights(wanted)
            norm = math.sqrt(sum(v * v for v in a.values())) * math.sqrt(sum(v * v for v in b.values()))
            dot = sum(min(value, b.get(gram, 0.0)) * b.get(gram, 0.0) for gram, value in a.items())
            penalty = math.exp(-((len(given) - len(wanted)) ** 2) / (2 * 6.0**2))
            total += 10 / 4 * (dot / norm if norm else 0.0) * penalty
    return total / len(references)


def test_cider_agrees_with_the_paper() -> None:
    found = measure_texts(REFERENCES, PREDICTIONS)
    expected = cider_d([split_words(t) for t in REFERENCES], [split_words(t) for t in PREDICTIONS])
    assert found.cider == pytest.approx(expected, abs=1e-9)
    assert expected > 0.1


def test_the_same_text_is_the_best_and_none_the_worst() -> None:
    best = measure_texts(REFERENCES, REFERENCES)
    assert (best.bleu, best.rouge_l, best.cider) == pytest.approx((4.0, 1.0, 10.0))
    assert best.meteor > 0.99
    worst = measure_texts(REFERENCES, ["", " ", "..."])
    assert (worst.bleu, worst.rouge_l, worst.meteor, worst.cider) == (0.0, 0.0, 0.0, 0.0)


def test_cider_of_one_answer_is_not_defined() -> None:
    assert measure_texts(REFERENCES[:1], PREDICTIONS[:1]).cider is None


def test_as_many_answers_as_references() -> None:
    with pytest.raises(ValueError, match="2 references for 1 predictions"):
        measure_texts(REFERENCES[:2], PREDICTIONS[:1])
    with pytest.raises(ValueError, match="0 references"):
        measure_texts([], [])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap.cider.cider", None)
    with pytest.raises(SetupError, match=r"pycocoevalcap.*holmes-engine\[eval\].*--no-text"):
        check_text_metrics(Meteor.STEM)


def test_java_is_asked_for_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    check_text_metrics(Meteor.STEM)
    with pytest.raises(SetupError, match="--meteor java needs a Java runtime"):
        check_text_metrics(Meteor.JAVA)


@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR 1.5 is a Java program")
@pytest.mark.integration
def test_meteor_of_java_knows_synonyms() -> None:
    wanted, given = ["a large vehicle burns"], ["a big vehicle burns"]
    stem, java = measure_texts(wanted, given), measure_texts(wanted, given, Meteor.JAVA)
    assert java.meteor_variant == "java"
    assert 0 < java.meteor <= 1
    # the same sentence with a word that is no synonym
    assert java.meteor > measure_texts(wanted, ["a blue vehicle burns"], Meteor.JAVA).meteor
    assert stem.meteor == measure_texts(wanted, ["a blue vehicle burns"]).meteor


WORDS = split_words(
    "a the man woman car dog runs walks falls hits opens burns near into behind door road shop and then slowly"
)


def random_texts(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Sentences of few words, and what a bad memory makes of them: words lost, doubled, exchanged and moved."""
    rng = random.Random(seed)
    wanted, given = [], []
    for _ in range(count):
        words = [rng.choice(WORDS) for _ in range(rng.randint(1, 24))]
        wanted.append(" ".join(words))
        for _ in range(rng.randint(0, 8)):
            place = rng.randrange(len(words))
            match rng.choice(("lose", "double", "exchange", "move")):
                case "lose" if len(words) > 1:
                    del words[place]
                case "double":
                    words.insert(place, words[place])
                case "exchange":
                    words[place] = rng.choice(WORDS)
                case "move":
                    words.insert(rng.randrange(len(words)), words.pop(place))
        given.append(" ".join(words))
    return wanted, given


def test_figures_of_random_texts_stay_what_other_libraries_gave() -> None:
    # BLEU is that of sacrebleu 2.6.0 without smoothing, ROUGE-L follows from precision and recall of rouge-score 0.1.2
    found = measure_texts(*random_texts(200, seed=7))
    assert (found.bleu_1, found.bleu_2, found.bleu_3, found.bleu_4) == pytest.approx(
        (0.866531, 0.765611, 0.676302, 0.602870), abs=1e-6
    )
    assert found.rouge_l == pytest.approx(0.768448, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_bleu_agrees_with_sacrebleu(seed: int) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    wanted, given = random_texts(60, seed)
    found = measure_texts(wanted, given)
    for order, ours in enumerate((found.bleu_1, found.bleu_2, found.bleu_3, found.bleu_4), start=1):
        theirs = sacrebleu.BLEU(max_ngram_order=order, tokenize="none", smooth_method="none", force=True)
        assert ours == pytest.approx(theirs.corpus_score(given, [wanted]).score / 100, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_rouge_l_agrees_with_rouge_score(seed: int) -> None:
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
    wanted, given = random_texts(60, seed)
    scorer = rouge_scorer.RougeScorer(["rougeL"])
    beta2, values = 1.2**2, []
    for one, other in zip(wanted, given, strict=True):
        score = scorer.score(one, other)["rougeL"]
        denominator = score.recall + beta2 * score.precision
        values.append((1 + beta2) * score.precision * score.recall / denominator if denominator else 0.0)
    assert measure_texts(wanted, given).rouge_l == pytest.approx(sum(values) / len(values), abs=1e-6)
