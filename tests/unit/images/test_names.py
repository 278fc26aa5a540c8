"""Names by content."""

from __future__ import annotations

from images.names import digest, image_name, labels


def test_parts_do_not_run_together() -> None:
    assert digest(["ab", "c"]) != digest(["a", "bc"])
    assert digest(["a", ""]) != digest(["a"])


def test_the_same_parts_give_the_same_name_and_kinds_differ() -> None:
    name = image_name("orders", "dependencies", ["x", b"y"])
    assert name == image_name("orders", "dependencies", ["x", b"y"])
    assert name.startswith("samovar/orders:dependencies-")
    assert name.rpartition("-")[2] != image_name("orders", "deployment", ["x", b"y"]).rpartition("-")[2]


def test_own_labels_win_over_given_ones() -> None:
    assert labels("orders", "base", {"samovar": "0", "mine": "1"}) == {
        "samovar": "1",
        "samovar.project": "orders",
        "samovar.kind": "base",
        "mine": "1",
    }


def test_a_name_ends_in_128_bits_and_is_a_tag() -> None:
    name, _, tag = image_name("orders", "dependencies", ["x"]).partition(":")
    assert name == "samovar/orders"
    assert len(tag.rpartition("-")[2]) >= 32
    assert len(tag) <= 128
