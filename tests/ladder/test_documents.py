import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladder.documents import Documents, pack

PADDING = 0


def numbered_documents(lengths: list[int]) -> Documents:
    """Documents whose tokens are all different, so that any mix-up shows."""
    tokens = np.arange(1, sum(lengths) + 1)
    return Documents(tokens, tokens.astype(np.float32), np.array(lengths))


lengths = st.lists(st.integers(1, 12), min_size=1, max_size=40)


@given(lengths, st.integers(12, 30))
def test_packing_keeps_every_document_whole_and_in_order(lengths, row_length):
    documents = numbered_documents(lengths)
    tokens, weights = pack(documents, row_length, PADDING)
    assert tokens.shape[1] == row_length
    assert tokens[tokens != PADDING].tolist() == documents.tokens.tolist()
    assert (weights == tokens).all()
    row_of = {token: row for row, column in enumerate(tokens) for token in column if token != PADDING}
    assert all(len({row_of[token] for token in document}) == 1 for document in documents)


@given(lengths)
def test_packing_wastes_no_room_that_the_next_document_fits_into(lengths):
    tokens, _ = pack(numbered_documents(lengths), 12, PADDING)
    filled = (tokens != PADDING).sum(axis=1)
    first_document = {document[0]: len(document) for document in numbered_documents(lengths)}
    assert all(filled[row] + first_document[tokens[row + 1, 0]] > 12 for row in range(len(tokens) - 1))


def test_a_document_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match="a document of 9 tokens does not fit rows of 8"):
        pack(numbered_documents([3, 9]), 8, PADDING)


@given(lengths, st.integers(0, 2**32 - 1))
def test_shuffling_keeps_the_documents(lengths, seed):
    documents = numbered_documents(lengths)
    shuffled = documents.shuffled(np.random.default_rng(seed))
    assert sorted(map(tuple, shuffled)) == sorted(map(tuple, documents))
    assert (shuffled.weights == shuffled.tokens).all()
