import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ladder.holdout import Split, hash_columns, in_split

columns = st.lists(st.lists(st.integers(0, 2**40), min_size=3, max_size=3), min_size=1, max_size=5)


@given(columns)
def test_every_case_belongs_to_exactly_one_split(columns):
    hashes = hash_columns(*map(np.array, columns))
    owners = sum(in_split(hashes, split).astype(int) for split in (None, *Split))
    assert (owners == 1).all()


def test_splits_have_their_share():
    numbers = np.arange(100_000)
    hashes = hash_columns(numbers % 317, numbers // 317)
    assert len(np.unique(hashes)) == len(numbers)
    for split in Split:
        assert abs(in_split(hashes, split).mean() - 1 / 16) < 0.005
        assert abs(in_split(hashes, split, slices=4).mean() - 1 / 4) < 0.01


def test_the_hash_depends_on_the_order_of_columns():
    a, b = np.arange(1000), np.arange(1000, 2000)
    assert (hash_columns(a, b) != hash_columns(b, a)).all()
