"""What the dashboard's buttons and keys do, on real runs in real containers."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.reading import FEW, check_reading
from tests.browser.sights import HOSTILE_TAG, api, page, runs, samovar
from tests.browser.watching import Visitor
from tests.stack import Stack
from tests.waiting import eventually

__all__ = ["page", "runs", "samovar"]

pytestmark = [pytest.mark.browser, pytest.mark.docker]


def test_by_the_keyboard_alone_from_signing_in_to_an_edited_replay_from_a_checkpoint(
    visitor: Visitor, samovar: Stack, key: str, runs: dict[str, str]
) -> None:
    page = visitor.go("/login?next=/runs%3Fstatus%3Dfailed%26task%3Dpicky")
    # (a page has its focus when it is drawn, which may be after it was loaded)
    expect(page.locator("input[name=key]")).to_be_focused()
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs?status=failed&task=picky")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{runs['picky']}")
    page.keyboard.press("r")
    page.wait_for_url("**/replay")
    _tab_to(page, "Payload, as JSON")
    page.keyboard.press("Control+A")
    page.keyboard.type('{"name": "please"}')
    expect(page.locator("#checked")).to_contain_text("This fits")
    _tab_to(page, "From")
    page.keyboard.type("after prepared")
    _tab_to(page, "Replay")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda address: runs["picky"] not in address)
    made = urlsplit(page.url).path.rpartition("/")[2]
    eventually(lambda: samovar.cli("runs", "show", made)["status"] == "completed", "the replay to be done")
    shown = samovar.cli("runs", "show", made)
    assert (shown["payload"], shown["result"]) == ({"name": "please"}, "done")
    assert shown["origin"] == {"kind": "replay", "id": runs["picky"]}
    expect(page.locator("#live_head .status").first).to_contain_text("completed")


def _tab_to(page: Page, label: str) -> None:
    """Tab until the focus is on what is called `label`."""
    for _ in range(80):
        page.keyboard.press("Tab")
        named = page.evaluate(
            "() => { const e = document.activeElement; return (e.labels?.[0] ?? e).textContent.trim(); }"
        )
        if str(named).startswith(label):
            return
    raise AssertionError(f"no way to {label!r} by the keyboard")


def test_a_state_that_changes_is_seen_without_a_reload(
    page: Page, visitor: Visitor, samovar: Stack, runs: dict[str, str]
) -> None:
    with samovar.client() as client:
        run = client.trigger("steady", {"seconds": 600})
        page = visitor.go(f"/runs/{run.id}")
        expect(page.locator("#live_head .status").first).to_contain_text("running")
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#live_head .status").first).to_contain_text("canceled")
        assert run.wait(60).status == "canceled"


def test_lines_are_seen_as_they_are_printed(page: Page, visitor: Visitor, runs: dict[str, str]) -> None:
    page = visitor.go(f"/runs/{runs['steady']}/logs")
    last = page.locator(".log .l").last.inner_text()
    expect(page.locator(".log .l").last).not_to_have_text(last, timeout=20_000)
    now = int(page.locator(".log .l").last.inner_text().split()[-1])
    expect(page.locator(".log")).to_contain_text(f"still here {now + 3}", timeout=20_000)
    numbers = [int(text.split()[-1]) for text in page.locator(".log .l").all_inner_texts()]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "each once, in its order"


def look_at(page: Page, seen: bool) -> None:
    """As when a tab comes to the front of its window, or goes behind another one."""
    hidden = "false" if seen else "true"
    page.evaluate(
        f"Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


def test_a_hidden_page_holds_no_stream(page: Page, visitor: Visitor) -> None:
    page = visitor.go("/runs")
    eventually(lambda: any("/live?" in address for address in visitor.requests), "the stream to begin")
    before = len(visitor.requests)
    look_at(page, False)
    look_at(page, True)
    eventually(lambda: sum("/live?" in a for a in visitor.requests[before:]) == 1, "it to begin again")


def test_each_of_ten_tabs_is_live_when_looked_at(page: Page, visitor: Visitor, samovar: Stack) -> None:
    """A browser holds six connections to a server: were each tab to keep one, the seventh had no answer."""
    tabs = []
    for _ in range(10):
        for other in tabs[-1:]:
            look_at(other, False)
        tabs.append(visitor.context.new_page())
        tabs[-1].goto("/runs")
    look_at(tabs[-1], False)
    with samovar.client() as client:
        for tab in tabs:
            look_at(tab, True)
            run = client.trigger("greet", {"name": "tab"})
            expect(tab.locator(f'a[href="/runs/{run.id}"]').first).to_be_visible()
            look_at(tab, False)
    for tab in tabs:
        tab.close()


def test_a_run_says_why_it_does_not_run_and_the_button_helps(page: Page, visitor: Visitor, samovar: Stack) -> None:
    samovar.cli("queues", "pause", "task/greet")
    with samovar.client() as client:
        run = client.trigger("greet", {"name": "patient"})
        page = visitor.go(f"/runs/{run.id}")
        expect(page.locator("main")).to_contain_text("is paused")
        page.get_by_role("button", name="Resume the queue").click()
        expect(page.locator("#live_head .status").first).to_contain_text("completed")
        assert run.wait(60).status == "completed"


def test_a_task_is_triggered_by_the_form_of_its_schema(page: Page, visitor: Visitor, samovar: Stack) -> None:
    page = visitor.go("/tasks/sights/greet")
    page.get_by_label("name", exact=True).fill("Form")
    page.get_by_label("times, a number").fill("many")
    expect(page.locator("#checked")).to_contain_text("not JSON")
    page.get_by_label("times, a number").fill("2")
    expect(page.locator("#checked")).to_contain_text("This fits")
    page.get_by_role("button", name="Trigger").click()
    page.wait_for_url("**/runs/run_*")
    run = urlsplit(page.url).path.rpartition("/")[2]
    assert samovar.cli("runs", "show", run)["payload"] == {"name": "Form", "times": 2}
    expect(page.locator("#live_head .status").first).to_contain_text("completed")


def test_many_are_replayed_after_a_look_at_which(page: Page, visitor: Visitor, samovar: Stack) -> None:
    page = visitor.go("/runs?status=failed&task=picky")
    page.get_by_label("all that fit, not just the marked ones").check()
    page.get_by_role("button", name="Replay…").click()
    expect(page.locator("h1")).to_contain_text("Replay 1 run?")
    expect(page.locator("main")).to_contain_text("failed, of the task picky")
    page.get_by_role("button", name="Replay them").click()
    expect(page.locator("#live_head")).to_contain_text("Nothing was done yet: it begins")
    page.get_by_role("button", name="Begin now").click()
    expect(page.locator("#live_head")).to_contain_text("1 of 1: 1 done")
    made = page.locator("h2:has-text('New runs') + ul a").first.inner_text()
    eventually(lambda: samovar.cli("runs", "show", made)["status"] == "failed", "the replay to end")
    for path in ("/bulk", urlsplit(page.url).path):
        check_reading(visitor, path, FEW)


def test_a_view_is_kept_under_a_name_until_it_is_removed(page: Page, visitor: Visitor) -> None:
    address = "/runs?status=failed&tag=bulk"
    for number, name in enumerate((HOSTILE_TAG, "V" * 80)):
        page = visitor.go(address if number == 0 else "/runs?status=completed")
        page.get_by_label("Keep this view as").fill(name)
        page.get_by_role("button", name="Save").click()
    check_reading(visitor, address, FEW)
    page = visitor.go("/runs")
    assert page.evaluate("window.hacked") is None
    page.get_by_role("link", name=HOSTILE_TAG).click()
    page.wait_for_url(f"**{address}")
    page.get_by_role("button", name=f"Remove the view {HOSTILE_TAG}").click()
    expect(page.get_by_role("link", name=HOSTILE_TAG)).to_have_count(0)
    expect(page.get_by_role("link", name="V" * 79)).to_have_count(1)


def test_marked_ones_alone_are_canceled(page: Page, visitor: Visitor, samovar: Stack) -> None:
    with samovar.client() as client:
        marked, other = (client.trigger("steady", {"seconds": 600}, tags=["bulk"]) for _ in range(2))
        page = visitor.go("/runs?tag=bulk")
        page.get_by_label(f"Mark {marked.id}").check()
        page.get_by_role("button", name="Cancel…").click()
        expect(page.locator("main")).to_contain_text("1 marked ones")
        page.get_by_role("button", name="Cancel them").click()
        page.get_by_role("button", name="Take it back").click()
        expect(page.locator("#live_head")).to_contain_text("taken back before anything was done")
        assert samovar.cli("runs", "show", marked.id)["status"] in ("queued", "running")
        page = visitor.go("/runs?tag=bulk")
        page.get_by_label(f"Mark {marked.id}").check()
        page.get_by_role("button", name="Cancel…").click()
        page.get_by_role("button", name="Cancel them").click()
        page.get_by_role("button", name="Begin now").click()
        assert marked.wait(60).status == "canceled"
        assert samovar.cli("runs", "show", other.id)["status"] in ("queued", "running")
        other.cancel()
        other.wait(60)


def test_what_the_other_pages_do(page: Page, visitor: Visitor, samovar: Stack, key: str) -> None:
    """Each button once: of schedules, queues, deliveries, hosts, dead letters and keys."""
    schedule = api(samovar, key, "/schedules")["items"][0]["id"]
    page = visitor.go("/schedules")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    assert api(samovar, key, f"/schedules/{schedule}")["paused"]
    page.get_by_role("button", name="Resume").click()
    page = visitor.go(f"/schedules/{schedule}")
    page.get_by_role("button", name="Run it now").click()
    page.wait_for_url("**/runs/run_*")

    page = visitor.go("/queues")
    if page.locator("#idle-queues").count():
        page.locator("#idle-queues summary").click()
    page.get_by_role("link", name="task/picky").first.click()
    page.get_by_label("Runs at once in task/picky").fill("2")
    page.get_by_label("Runs at once in task/picky").press("Enter")
    expect(page.get_by_label("Runs at once in task/picky")).to_have_value("2")
    (queue,) = [q for q in api(samovar, key, "/queues")["items"] if q["name"] == "task/picky"]
    assert (queue["concurrency"], queue["overridden"]) == (2, True)

    page = visitor.go("/webhooks")
    page.locator("#live_rows a.mono").first.click()
    page.get_by_role("button", name="Deliver it again").click()
    expect(page.locator("main")).to_contain_text("replayed 1 times")

    page = visitor.go("/hosts")
    page.get_by_role("button", name="Give it nothing new").click()
    expect(page.locator("main")).to_contain_text("draining")
    page.get_by_role("button", name="Use it again").click()
    expect(page.locator("main")).to_contain_text("alive")

    page = visitor.go("/keys")
    page.get_by_label("Name").fill("by-hand")
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("main")).to_contain_text("not shown again")
    page = visitor.go("/keys")
    page.locator("tr", has_text="by-hand").get_by_role("button", name="Revoke").click()
    expect(page.locator("tr", has_text="by-hand")).to_contain_text("revoked")
    entries = api(samovar, key, "/audit", limit=50)["items"]
    assert {"queue.change", "schedule.change", "host.drain", "key.create", "key.revoke"} <= {
        entry["action"] for entry in entries
    }


def test_versions_are_compared_promoted_and_rolled_back(
    page: Page, visitor: Visitor, samovar: Stack, key: str
) -> None:
    samovar.deploy("sights")
    page = visitor.go("/deployments?project=sights")
    page.locator("#live_rows tbody a").first.click()
    expect(page.locator("#live_head")).to_contain_text("current")
    expect(page.locator("main")).to_contain_text("Their tasks are declared alike")
    expect(page.locator("pre.build")).to_contain_text("reading the tasks")
    newest = urlsplit(page.url).path
    page.get_by_role("button", name="Roll back").click()
    page.wait_for_url(lambda address: urlsplit(address).path != newest)
    page = visitor.go(newest)
    page.get_by_role("button", name="Promote").click()
    expect(page.locator("#live_head .status").first).to_contain_text("current")


def test_a_link_of_the_command_line_signs_in_once(visitor: Visitor, samovar: Stack, runs: dict[str, str]) -> None:
    visitor.allow("status of 401")
    path = urlsplit(samovar.cli("open", runs["greet"], "--print")["url"]).path
    page = visitor.go(path)
    expect(page).to_have_url(re.compile(f"/runs/{runs['greet']}$"))
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/login"))
    page = visitor.go(path)
    expect(page.get_by_role("alert")).to_contain_text("used before")


def test_a_run_that_ran_out_of_memory_says_so_and_where_to_go_on(
    page: Page, visitor: Visitor, runs: dict[str, str]
) -> None:
    page = visitor.go(f"/runs/{runs['greedy']}")
    head = page.locator("#live_head")
    expect(head).to_contain_text("It took more memory than it may have.")
    expect(head).to_contain_text("of 64 MiB")
    expect(head).to_contain_text("Reported by the container")
    expect(head.get_by_role("table")).to_contain_text("zygote")
    head.get_by_role("link", name="Resume there with 128 MiB").click()
    expect(page.get_by_label("Memory")).to_have_value("128m")
    expect(page.locator("select[name=from_checkpoint]")).to_have_value("first")
    expect(page.locator("main")).to_contain_text("Kept: first")
