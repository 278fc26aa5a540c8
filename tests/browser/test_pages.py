"""The dashboard's pages on real runs: read by everybody, deceived by nobody, and what their buttons do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.reading import check_reading, picture
from tests.browser.watching import Visitor, visiting
from tests.stack import Stack, stack
from tests.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.docker]

HOSTILE_TAG = "<script>window.hacked=1</script>"


@pytest.fixture(scope="module")
def samovar() -> Iterator[Stack]:
    with stack() as made:
        made.deploy("sights")
        made.deploy("probe")
        yield made


@pytest.fixture(scope="module")
def runs(samovar: Stack) -> dict[str, str]:
    """A run of each kind, by the name of its task; `steady` goes on."""
    found: dict[str, str] = {}
    with samovar.client() as client:
        wanted = {"greet": {"name": "Ada", "times": 3}, "hostile": {}, "picky": {"name": "now"}, "greedy": {}}
        made = {name: client.trigger(name, payload, tags=[HOSTILE_TAG]) for name, payload in wanted.items()}
        for name, run in made.items():
            run.wait(120)
            found[name] = run.id
        found["asks"] = client.trigger("asks", {}).id
        found["steady"] = client.trigger("steady", {}).id
    eventually(
        lambda: samovar.cli("runs", "show", found["asks"])["status"] == "waiting", "the token to be asked for"
    )
    eventually(lambda: samovar.cli("runs", "show", found["steady"])["status"] == "running", "a run to go on")
    httpx.post(f"{samovar.url}/hooks/sights/sights", json={"x": HOSTILE_TAG}, timeout=30)
    samovar.cli("events", "send", "greeting", "--payload", json.dumps({"x": HOSTILE_TAG}))
    samovar.cli("secrets", "set", "TOKEN", "--project", "sights", stdin="something")
    return found


@pytest.fixture
def page(visitor: Visitor, key: str) -> Page:
    return visitor.sign_in(key)


def api(samovar: Stack, key: str, path: str, **query: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.get(f"{samovar.url}/api/v1{path}", headers=headers, params=query, timeout=30)
    return dict(answer.raise_for_status().json())


PAGES = (
    "/",
    "/runs",
    "/runs?status=failed",
    "/runs?status=nonsense",
    "/runs/{greet}",
    "/runs/{greet}?scale=equal",
    "/runs/{hostile}",
    "/runs/{greedy}",
    "/runs/{asks}",
    "/runs/{steady}",
    "/runs/{hostile}/logs",
    "/runs/{hostile}/checkpoints",
    "/runs/{picky}/replay?from=prepared",
    "/dead-letters",
    "/tasks",
    "/tasks/sights/greet",
    "/errors",
    "/queues",
    "/schedules",
    "/schedules/{schedule}",
    "/events",
    "/webhooks",
    "/deliveries/{delivery}",
    "/tokens",
    "/deployments",
    "/deployments/{deployment}",
    "/pool",
    "/containers/{container}",
    "/hosts",
    "/keys",
    "/secrets",
    "/audit",
    "/system",
    "/nothing/here",
)


def addressed(samovar: Stack, key: str, runs: dict[str, str], path: str) -> str:
    """`path` with the ids that it names."""
    if "{" not in path:
        return path
    names: dict[str, str] = {**runs}
    for name, place in (("schedule", "/schedules"), ("delivery", "/deliveries"), ("deployment", "/deployments")):
        if f"{{{name}}}" in path:
            names[name] = api(samovar, key, place)["items"][0]["id"]
    if "{container}" in path:
        names["container"] = api(samovar, key, "/pool")["items"][0]["containers"][0]["container"]
    return path.format(**names)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_read_by_everybody_and_no_text_on_it_acts(
    visitor: Visitor, page: Page, samovar: Stack, key: str, runs: dict[str, str], path: str
) -> None:
    if path in ("/runs?status=nonsense", "/nothing/here"):
        visitor.allow("status of 4")  # which the browser says of the page itself
    where = addressed(samovar, key, runs, path)
    page = visitor.go(where)
    expect(page.locator("h1")).to_be_visible()
    assert page.evaluate("window.hacked") is None
    assert "internal" not in page.locator("main").inner_text()[:200]
    weight = len(page.content())
    assert weight < 150_000, f"{path} weighs {weight} bytes"
    assert page.locator("*").count() < 1500
    name = re.sub(r"\W+", "-", path.partition("?")[0]).strip("-") or "overview"
    if "?" not in path:
        picture(page, name)
        with visitor.also(color_scheme="dark") as dark:
            picture(dark.go(where), f"{name}-dark")
    if path not in ("/runs?status=nonsense", "/nothing/here"):
        check_reading(visitor, where)


def test_all_of_it_is_read_without_scripts(
    browser: Browser, samovar: Stack, key: str, runs: dict[str, str]
) -> None:
    with visiting(browser, samovar.url, java_script_enabled=False) as reader:
        reader.allow("status of 422")  # which the browser says of the answer to the wrong form
        page = reader.sign_in(key)
        page.get_by_role("link", name="Runs", exact=True).click()
        page.get_by_role("link", name=runs["picky"]).first.click()
        expect(page.locator("main")).to_contain_text("ValueError")
        page.get_by_role("link", name="Logs", exact=True).click()
        expect(page.locator("h1")).to_contain_text("Log of")
        page.go_back()
        page.get_by_role("link", name="Replay…").click()
        page.get_by_label("Payload, as JSON").fill('{"name": 3}')
        page.get_by_role("button", name="Replay").click()
        expect(page.get_by_role("alert")).to_contain_text("3 is not text")
        assert json.loads(page.get_by_label("Payload, as JSON").input_value()) == {"name": 3}, "nothing is lost"


def test_by_the_keyboard_alone_from_signing_in_to_an_edited_replay_from_a_checkpoint(
    visitor: Visitor, samovar: Stack, key: str, runs: dict[str, str]
) -> None:
    page = visitor.go("/login?next=/runs%3Fstatus%3Dfailed%26task%3Dpicky")
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


def test_a_hidden_page_holds_no_stream(page: Page, visitor: Visitor) -> None:
    page = visitor.go("/runs")
    eventually(lambda: any("/live?" in address for address in visitor.requests), "the stream to begin")
    before = len(visitor.requests)
    hide = "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(f"Object.defineProperty(document, 'hidden', {{value: true, configurable: true}}); {hide}")
    page.evaluate(f"Object.defineProperty(document, 'hidden', {{value: false, configurable: true}}); {hide}")
    eventually(lambda: sum("/live?" in a for a in visitor.requests[before:]) == 1, "it to begin again")


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
    expect(page.locator("h1")).to_contain_text("1 done")
    made = page.locator("h2:has-text('New runs') + ul a").first.inner_text()
    eventually(lambda: samovar.cli("runs", "show", made)["status"] == "failed", "the replay to end")


def test_marked_ones_alone_are_canceled(page: Page, visitor: Visitor, samovar: Stack) -> None:
    with samovar.client() as client:
        marked, other = (client.trigger("steady", {"seconds": 600}, tags=["bulk"]) for _ in range(2))
        page = visitor.go("/runs?tag=bulk")
        page.get_by_label(f"Mark {marked.id}").check()
        page.get_by_role("button", name="Cancel…").click()
        expect(page.locator("main")).to_contain_text("1 marked ones")
        page.get_by_role("button", name="Cancel them").click()
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
    page.locator("#idle-queues summary").click() if page.locator("#idle-queues").count() else None
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


def test_a_key_sees_its_project_alone_and_is_told_which_role_may(
    browser: Browser, samovar: Stack, key: str, runs: dict[str, str]
) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    body = {"name": "of-probe", "role": "read", "project": "probe"}
    made = httpx.post(f"{samovar.url}/api/v1/keys", json=body, headers=headers, timeout=30).json()
    with visiting(browser, samovar.url) as reader:
        reader.allow("status of 4")
        page = reader.sign_in(made["key"])
        for path in PAGES:
            page = reader.go(addressed(samovar, key, runs, path))
            text = page.locator("body").inner_text().replace(addressed(samovar, key, runs, path), "")
            assert "sights" not in text.replace("project sights", ""), path
            assert "picky" not in text
        page = reader.go("/queues")
        assert page.get_by_role("button", name="Pause").first.is_disabled()
        expect(page.locator("main")).to_contain_text("takes one with the role admin")
        httpx.delete(f"{samovar.url}/api/v1/keys/of-probe", headers=headers, timeout=30).raise_for_status()
        # its stream ends, and so does its session
        expect(page.locator("#over")).to_contain_text("signed out", timeout=5_000)
        page = reader.go("/runs")
        expect(page).to_have_url(re.compile("/login"))


def test_a_link_signs_in_once(visitor: Visitor, samovar: Stack, key: str) -> None:
    visitor.allow("status of 401")
    headers = {"Authorization": f"Bearer {key}"}
    body = {"path": "/runs?status=failed"}
    made = httpx.post(f"{samovar.url}/api/v1/dashboard/link", json=body, headers=headers, timeout=30).json()
    path = urlsplit(made["url"]).path
    page = visitor.go(path)
    expect(page).to_have_url(re.compile(r"/runs\?status=failed"))
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/login"))
    page = visitor.go(path)
    expect(page.get_by_role("alert")).to_contain_text("used before")


def test_states_are_told_apart_without_colours(page: Page, visitor: Visitor, runs: dict[str, str]) -> None:
    page = visitor.go("/runs")
    seen = page.locator("#live_rows .status")
    shapes: dict[str, str] = {}
    for number in range(seen.count()):
        one = seen.nth(number)
        shapes[one.inner_text().strip()] = str(one.locator("use").get_attribute("href"))
    assert {"completed", "failed", "running", "waiting"} <= shapes.keys()
    assert len({shapes[word] for word in ("completed", "failed", "running", "waiting")}) == 4
