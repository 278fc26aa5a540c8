// What a page does besides being read: it keeps itself up to date, keeps its times, and listens to keys.
// Everything here is for comfort: without it every page is read, and every button works.

const MINUTE = 60, HOUR = 3600, DAY = 86400;

// ---------------------------------------------------------------- times

function span(seconds) {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  let whole = Math.round(seconds);
  const parts = [];
  for (const [step, unit] of [[DAY, "d"], [HOUR, "h"], [MINUTE, "min"], [1, "s"]]) {
    const count = Math.floor(whole / step);
    whole -= count * step;
    if (count) parts.push(`${count} ${unit}`);
  }
  return parts.slice(0, 2).join(" ");
}

const local = () => localStorage.getItem("samovar-times") === "local";

function times(root = document) {
  for (const time of root.querySelectorAll("time[datetime]:not([data-exact])")) {
    const at = new Date(time.dateTime);
    const past = (Date.now() - at) / 1000;
    if ("running" in time.dataset) time.textContent = span(past);
    else {
      time.textContent = past < -1 ? `in ${span(-past)}` : past < 1 ? "now" : `${span(past)} ago`;
      time.title = local() ? at.toLocaleString() : at.toISOString().replace("T", " ").replace("Z", " UTC");
    }
  }
}
setInterval(() => { if (!document.hidden) times(); }, 1000);

// ---------------------------------------------------------------- live parts

const held = document.getElementById("held");
const waiting = new Map();
let stream = null;

// what somebody points at, has marked or is writing in does not move under them
function inUse(part) {
  if (part.matches(":hover") && part.querySelector("table")) return true;
  if (part.contains(document.activeElement)) return true;
  return part.querySelector("input:checked") !== null;
}

function put(part, html) {
  const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
  part.innerHTML = html;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  globalThis.htmx?.process(part);
  times(part);
}

function received(id, html) {
  const part = document.getElementById(id);
  if (!part) return;
  if (inUse(part) && part.childElementCount) {
    waiting.set(id, html);
    held.hidden = false;
  } else put(part, html);
}

function release() {
  for (const [id, html] of waiting) {
    const part = document.getElementById(id);
    if (part) put(part, html);
  }
  waiting.clear();
  held.hidden = true;
}
held?.addEventListener("click", release);
document.addEventListener("mouseout", () => {
  for (const [id, html] of waiting) {
    const part = document.getElementById(id);
    if (part && !inUse(part)) { put(part, html); waiting.delete(id); }
  }
  if (held) held.hidden = waiting.size === 0;
});

function listen() {
  if (stream || !document.querySelector("main[data-live]")) return;
  stream = new EventSource(`/live?of=${encodeURIComponent(location.pathname + location.search)}`);
  stream.addEventListener("part", (event) => {
    say("");
    const { id, html } = JSON.parse(event.data);
    received(id, html);
  });
  stream.addEventListener("problem", (event) => say(JSON.parse(event.data).message));
  stream.addEventListener("over", () => { say("You are signed out: this page does not change any more."); deaf(); });
}
function deaf() { stream?.close(); stream = null; }
function say(text) {
  const over = document.getElementById("over");
  over.textContent = text;
  over.hidden = !text;
}

// ---------------------------------------------------------------- a log that goes on

const MOST_LINES = 1000, A_FRAME = 100;
let tail = null, coming = [];

function follow() {
  const log = document.querySelector(".log[data-follow]");
  if (!log || tail) return;
  tail = new EventSource(log.dataset.follow + (log.dataset.last ? `&after=${log.dataset.last}` : ""));
  tail.addEventListener("lines", (event) => {
    const { html, last } = JSON.parse(event.data);
    const made = document.createElement("template");
    made.innerHTML = html;
    coming.push({ log, last, lines: made.content });
    if (coming.length === 1) requestAnimationFrame(() => show());
  });
  tail.addEventListener("over", () => { tail.close(); });
}

// of what has come so much as a frame can lay out, and no more in all than stays
function show(most = A_FRAME) {
  if (!coming.length) return;
  const { log } = coming[0];
  const low = innerHeight + scrollY >= document.documentElement.scrollHeight - 40;
  let behind = coming.reduce((sum, one) => sum + one.lines.childElementCount, 0);
  if (behind > MOST_LINES) log.replaceChildren();
  for (; behind > MOST_LINES; behind -= 1) next().remove();
  const more = document.createDocumentFragment();
  while (coming.length && more.childElementCount < most) more.append(next());
  while (log.childElementCount + more.childElementCount > MOST_LINES) log.firstElementChild.remove();
  log.append(more);
  if (low) scrollTo(0, document.documentElement.scrollHeight);
  if (coming.length) requestAnimationFrame(() => show());
}

function next() {
  const { log, last, lines } = coming[0];
  const line = lines.firstElementChild;
  if (lines.childElementCount === 1) { log.dataset.last = last; coming.shift(); }
  return line;
}

function asleep() { deaf(); tail?.close(); tail = null; show(Infinity); }
function awake() {
  if (document.hidden) asleep();
  else { times(); listen(); follow(); }
}
document.addEventListener("visibilitychange", awake);
addEventListener("pagehide", asleep);
addEventListener("pageshow", awake);
// another filter: another page, with a stream of its own
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.target?.id === "main" || event.target?.id === "main") { asleep(); waiting.clear(); comforts(); awake(); }
});

// ---------------------------------------------------------------- keys

const help = document.getElementById("keys");
const GOING = { o: "/", r: "/runs", t: "/tasks", q: "/queues", p: "/pool", e: "/errors", d: "/deployments", s: "/schedules" };
let going = false;
const off = () => localStorage.getItem("samovar-keys") === "off";
const rows = () => [...document.querySelectorAll("tr[data-href]")];

function move(step) {
  const all = rows();
  if (!all.length) return;
  const now = all.findIndex((row) => row.classList.contains("at"));
  const next = Math.min(all.length - 1, Math.max(0, now < 0 ? 0 : now + step));
  all[now]?.classList.remove("at");
  all[next].classList.add("at");
  all[next].querySelector("a")?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || off()) return;
  if (event.target.matches("input, textarea, select")) return;
  const key = event.key;
  if (going) {
    going = false;
    if (GOING[key]) { event.preventDefault(); location.href = GOING[key]; }
    return;
  }
  const at = document.querySelector("tr.at");
  if (key === "g") going = true;
  else if (key === "/") { const box = document.querySelector("[data-search]"); if (box) { event.preventDefault(); box.focus(); } }
  else if (key === "j") move(1);
  else if (key === "k") move(-1);
  else if (key === "x") at?.querySelector("input[type=checkbox]")?.click();
  else if (key === "Enter" && at && !event.target.closest("a, button, summary")) location.href = at.dataset.href;
  else if (key === "y") document.querySelector("[data-copy]")?.click();
  else if (key === "?") help?.showModal();
  else if ("crl[]".includes(key)) document.querySelector(`[data-key="${key}"]`)?.click();
});

document.addEventListener("click", (event) => {
  const target = event.target;
  if (!(target instanceof Element)) return;
  if (target.closest("[data-open]")) help?.showModal();
  const copy = target.closest("[data-copy]");
  if (copy) navigator.clipboard?.writeText(copy.dataset.copy).then(() => { copy.textContent = "copied"; });
  if (target.closest("[data-close]")) help?.close();
});

const keysOn = document.getElementById("keys-on");
if (keysOn) {
  keysOn.checked = !off();
  keysOn.addEventListener("change", () => localStorage.setItem("samovar-keys", keysOn.checked ? "on" : "off"));
}
const timesLocal = document.getElementById("times-local");
if (timesLocal) {
  timesLocal.checked = local();
  timesLocal.addEventListener("change", () => {
    localStorage.setItem("samovar-times", timesLocal.checked ? "local" : "utc");
    times();
  });
}
function comforts() {
  for (const button of document.querySelectorAll("[data-needs-script]")) button.hidden = false;
}
comforts();
awake();
