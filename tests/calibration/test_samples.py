import gzip
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratalaw.calibration.samples import counts_of, interleaved, read_corpus, sample, turns
from stratalaw.jobs.stages import draw_calibration
from stratalaw.models.folder import copy_model
from stratalaw.seals import read_table


def tokenize(text: str) -> list[int]:
    return [int(word) for word in text.split()]


TEXTS = [" ".join(str(100 * i + j) for j in range(5 + i % 7)) for i in range(60)]
LONG_ENOUGH = [i for i, text in enumerate(TEXTS) if len(text.split()) >= 8]


@given(st.integers(1, len(LONG_ENOUGH)), st.integers(1, len(LONG_ENOUGH)), st.integers(0, 1000))
def test_a_smaller_set_is_a_prefix_of_a_larger_one(a, b, seed):
    small, large = (sample(TEXTS, tokenize, samples=n, tokens=8, seed=seed) for n in sorted((a, b)))
    assert small.equals(large[: len(small)])


def test_every_sample_has_exactly_the_tokens_of_its_text():
    drawn = sample(TEXTS, tokenize, samples=len(LONG_ENOUGH), tokens=8, seed=0)
    assert sorted(drawn.text) == LONG_ENOUGH
    for row in drawn.itertuples():
        assert row.tokens == tokenize(TEXTS[row.text])[:8]


def test_seeds_draw_different_sets():
    first, second = (sample(TEXTS, tokenize, samples=10, tokens=8, seed=seed) for seed in range(2))
    assert set(first.text) != set(second.text)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=4), st.integers(0, 60))
def test_any_first_samples_of_a_mixture_have_its_shares(parts, samples):
    counts = counts_of(parts, samples)
    assert sum(counts) == samples
    # No corpus is ahead of its share by a sample.
    assert all(count < samples * part / sum(parts) + 1 for count, part in zip(counts, parts, strict=True))
    assert turns(parts, samples) == turns(parts, samples + 5)[:samples]


def test_a_mixture_has_the_samples_of_its_corpora_in_turn():
    corpora = TEXTS[:30], TEXTS[30:]
    draws = [sample(texts, tokenize, samples=n, tokens=8, seed=0) for texts, n in zip(corpora, (2, 1), strict=True)]
    mixed = interleaved(draws, (2, 1))
    assert mixed.corpus.tolist() == [0, 1, 0]
    assert mixed[mixed.corpus == 0].text.tolist() == draws[0].text.tolist()
    assert mixed.tokens[1] == draws[1].tokens[0]


def test_a_draw_of_a_mixture_says_what_it_was_made_from(small_model_folder, tmp_path):
    texts = (small_model_folder.parents[1] / "calibration.jsonl").read_text().splitlines()
    for name, own in {"a": texts[:9], "b": texts[9:18]}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(own))
    copy_model(small_model_folder, tmp_path / "model")
    corpora = {f"corpora.{name}": str(tmp_path / f"{name}.jsonl") for name in "ab"}
    common = {"model": str(tmp_path / "model"), "requests": [], "tokens": 32, "overlap_words": None}
    mixed, alone = tmp_path / "s1-even.parquet", tmp_path / "s1.parquet"
    draw_calibration(corpora=corpora, parts={"a": 1, "b": 1}, samples=5, drawn=str(mixed), **common)
    draw_calibration(corpora={"corpus": corpora["corpora.a"]}, samples=3, drawn=str(alone), **common)
    table, seal = read_table(mixed, "calibration", {"seed": "1", "mixture": "even"})
    assert table.corpus.tolist() == [0, 1, 0, 1, 0]
    assert table[table.corpus == 0].text.tolist() == read_table(alone, "calibration", {"seed": "1"})[0].text.tolist()
    assert {"corpora.a", "corpora.b", "mixture"} < seal.made_from.keys()


def test_too_short_a_corpus_is_refused():
    expected = f"only {len(LONG_ENOUGH)} of 60 texts have 8 tokens and may be used; 50 samples are needed"
    with pytest.raises(ValueError, match=expected):
        sample(TEXTS, tokenize, samples=50, tokens=8, seed=0)


def test_a_corpus_is_read(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "one", "url": "x"}\n{"text": "two"}\n')
    assert list(read_corpus(path)) == ["one", "two"]


def test_a_gzipped_corpus_is_read(tmp_path):
    path = tmp_path / "corpus.json.gz"
    path.write_bytes(gzip.compress('{"text": "eins ≠ zwei"}\n{"text": "two"}\n'.encode()))
    assert list(read_corpus(path)) == ["eins ≠ zwei", "two"]


@pytest.mark.parametrize("damage", [lambda content: content[:-12], lambda content: b"text"])
def test_a_damaged_gzip_file_is_named(tmp_path, damage):
    path = tmp_path / "corpus.json.gz"
    path.write_bytes(damage(gzip.compress(b'{"text": "one"}\n' * 100)))
    with pytest.raises(ValueError, match=r"corpus.json.gz: not a gzip file, or cut short"):
        read_corpus(path)


@pytest.mark.parametrize("line", ["no json", '{"words": "one"}', '["text"]', '{"text": 1}', "[" * 10**5, ""])
def test_a_line_that_is_no_text_is_named(tmp_path, line):
    path = tmp_path / "corpus.jsonl"
    path.write_text(f'{{"text": "one"}}\n{line}\n')
    with pytest.raises(ValueError, match=r"corpus.jsonl: line 2 is not a JSON object with the key \"text\""):
        read_corpus(path)


def test_texts_that_are_not_allowed_are_passed_over_and_the_order_of_the_others_stays():
    everything = sample(TEXTS, tokenize, samples=len(LONG_ENOUGH), tokens=8, seed=0)
    forbidden = set(everything.text[:5])
    allowed = sample(
        TEXTS, tokenize, samples=10, tokens=8, seed=0, is_allowed=lambda t: TEXTS.index(t) not in forbidden
    )
    assert allowed.text.tolist() == everything.text[5:15].tolist()


def test_a_corpus_is_not_held_in_memory(tmp_path):
    for path, opened in ((tmp_path / "corpus.jsonl", open), (tmp_path / "corpus.jsonl.gz", gzip.open)):
        with opened(path, "wt") as file:
            for i in range(20_000):
                file.write(f'{{"text": "{i} {str(i) * 250}"}}\n')
        tracemalloc.start()
        corpus = read_corpus(path)
        drawn = sample(corpus, tokenize, samples=5, tokens=2, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(corpus) == 20_000 and [tokens[0] for tokens in drawn.tokens] == drawn.text.tolist()
        assert peak < 6e6  # of 25 MB of text


def test_places_are_those_of_a_list(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "a"}\r\n{"text": "\u00fc"}\n{"text": "c"}', encoding="utf-8")
    corpus = read_corpus(path)
    assert [corpus[1], corpus[-1], corpus[0]] == ["ü", "c", "a"]
    assert corpus[1:] == ["ü", "c"]
    with pytest.raises(IndexError):
        corpus[3]


def test_a_gzip_file_that_unpacks_without_bound_is_refused(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(200):
            file.write(bytes(2**20))
    with pytest.raises(ValueError, match=r"bomb.jsonl.gz: unpacks to over 100 times its size, unlike text"):
        read_corpus(path)


def test_a_line_without_end_is_refused(tmp_path):
    path = tmp_path / "corpus.jsonl"
    with path.open("wb") as file:
        file.truncate(10**9)  # holes: no bytes on the disk
    with pytest.raises(ValueError, match=r"corpus.jsonl: line 1 is longer than 64 MiB"):
        read_corpus(path)
