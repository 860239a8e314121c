"""Rows of a source."""

import numpy as np

from histolatent.images import spaced


def test_spaced_rows_go_from_the_first_to_the_last_and_are_no_more_than_there_are():
    rows = np.array([3, 5, 8, 9, 12, 20, 21])
    assert spaced(rows, 3).tolist() == [3, 9, 21]
    assert spaced(rows, 7).tolist() == spaced(rows, 100).tolist() == rows.tolist()
    assert spaced(rows, 1).tolist() == [3]
