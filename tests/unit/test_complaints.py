"""What users of other tools complain about, and the tests that hold it here: each is there, by its name.

The numbers are those of the threads; what each says and how it is answered stands beside it.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
SITE = "unit/coordinator/dashboard/test_site.py"
LOOKS = "unit/coordinator/dashboard/test_looks.py"
PAGES = "browser/test_pages.py"
DOING = "browser/test_doing.py"

#: thread → the complaint → the tests
COMPLAINTS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "riverqueue/riverui#106": (
        "a time-out at five million jobs: counts, and a sort without an index",
        [
            (SITE, "test_a_page_takes_few_statements_and_none_for_each_row"),
            ("conformance/history/test_errors_of_runs.py", "test_they_are_found_by_an_index"),
        ],
    ),
    "temporalio/ui#2278": (
        "one open dashboard slows the whole system",
        [
            (DOING, "test_a_hidden_page_holds_no_stream"),
            (LOOKS, "test_many_who_look_at_one_page_have_it_made_once"),
            (LOOKS, "test_looks_take_no_more_than_their_share_however_many_are_asked_for"),
        ],
    ),
    "temporalio/ui#2704": (
        "twenty thousand events are loaded, and the browser freezes",
        [
            (
                "unit/coordinator/dashboard/test_drawing.py",
                "test_many_of_one_kind_are_folded_and_the_picture_is_bounded",
            ),
            ("unit/coordinator/dashboard/test_formats.py", "test_values_are_trees_that_are_folded_and_bounded"),
            (PAGES, "test_every_page_is_read_by_everybody_and_no_text_on_it_acts"),
        ],
    ),
    "triggerdotdev/trigger.dev#1738": (
        "a run's page takes minutes where it has many logs",
        [("conformance/runs/test_log_search.py", "test_a_page_begins_at_its_cursor_by_the_key")],
    ),
    "inngest/inngest#4326": (
        "two hundred look-ups for a list, and a query that failed shows no results",
        [
            (SITE, "test_a_page_takes_few_statements_and_none_for_each_row"),
            (SITE, "test_a_page_that_fails_says_so_and_never_that_there_is_nothing"),
        ],
    ),
    "PrefectHQ/prefect#9947": (
        "lists carry gigabytes of payload",
        [("unit/coordinator/api/test_runs.py", "test_listing_pages_without_payloads")],
    ),
    "PrefectHQ/prefect#10805": (
        "no way to get all logs, or only the filtered ones",
        [("unit/coordinator/api/test_log_files.py", "test_a_file_of_text_has_every_line_and_nothing_that_acts")],
    ),
    "sidekiq/sidekiq#3243": (
        '"delete all" ignored the filter on the screen',
        [
            (DOING, "test_many_are_replayed_after_a_look_at_which"),
            (DOING, "test_marked_ones_alone_are_canceled"),
        ],
    ),
    "apache/airflow#61521": (
        "a task dies of memory, and the page shows nothing useful",
        [(DOING, "test_a_run_that_ran_out_of_memory_says_so_and_where_to_go_on")],
    ),
    "windmill-labs/windmill#5216": (
        "the memory of all jobs is wanted, to size workers",
        [
            ("unit/coordinator/test_advice.py", "test_it_is_what_the_attempts_needed_and_half_more"),
            ("conformance/attempts/test_what_if.py", "test_two_tasks_that_take_turns_want_room_for_both"),
        ],
    ),
    "hatchet-dev/hatchet#3706": (
        "spans without a parent",
        [
            (
                "unit/coordinator/test_trace.py",
                "test_the_ledger_adds_up_and_every_span_lies_in_its_parent_whatever_the_rows_hold",
            )
        ],
    ),
    "windmill-labs/windmill#2261": (
        "logs fill the database",
        [
            ("security/test_clients_disk.py", "test_bytes_of_a_project"),
            (
                "conformance/history/test_volumes.py",
                "test_logs_are_counted_by_project_while_they_are_written_and_after",
            ),
        ],
    ),
    "apache/airflow#7843": (
        "red and green look the same",
        [(PAGES, "test_states_are_told_apart_without_colours")],
    ),
}


@pytest.mark.parametrize("thread", COMPLAINTS)
def test_a_complaint_is_answered_by_tests_that_are_there(thread: str) -> None:
    _, tests = COMPLAINTS[thread]
    assert tests
    for path, name in tests:
        tree = ast.parse((TESTS / path).read_text("utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path}::{name}"
