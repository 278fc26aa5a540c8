"""The page on isolation says what the tests try."""

from __future__ import annotations

from tests.security import page


def test_the_page_is_what_the_tests_try() -> None:
    assert page.PAGE.read_text("utf-8") == page.generated(), "run python -m tests.security.page"
