// Keeps [data-live] parts of the page as the record is, from the events of /events (console/web/live.py).
// "ready" and "change", which names studies: the page is fetched again and what differs is changed in place.
// "progress" moves bars. A page that gets no stream, because too many are open, looks at the record twice a minute.
import { showAges } from "./page.js";

const LEAST_PAUSE_MS = 700;
const WITHOUT_STREAM_MS = 30000;
const shown = document.getElementById("live-state");
const stages = new Map();
let waiting = null;
let last = 0;

const parts = () => [...document.querySelectorAll("[data-live][id]")];

/** Make `old` like `fresh` and keep what a person has opened, typed or focused. */
function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.hasAttribute("data-keep") || (old.matches("details[open]") && old.querySelector("form"))) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old.matches("time[data-age]") && old.dateTime === fresh.dateTime) return;
  morphChildren(old, fresh);
}

const alike = (one, other) =>
  one.nodeType === other.nodeType && one.nodeName === other.nodeName && (one.id ?? "") === (other.id ?? "");

function morphChildren(old, fresh) {
  const byId = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const known = wanted.id && byId.get(wanted.id);
    if (known && alike(known, wanted)) {
      if (known !== at) old.insertBefore(known, at);
      else at = at.nextSibling;
      morph(known, wanted);
    } else if (at && !at.id && alike(at, wanted)) {
      const next = at.nextSibling;
      morph(at, wanted);
      at = next;
    } else {
      const added = document.importNode(wanted, true);
      old.insertBefore(added, at);
      if (added.nodeName === "TR") added.classList.add("fresh");
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

async function refresh() {
  waiting = null;
  last = performance.now();
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected || !answer.ok) { // signed out, or the study is gone
      setState("off");
      return;
    }
    if (again !== null) setState("slow");
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of parts()) {
      const other = fresh.getElementById(part.id);
      if (other) morph(part, other);
    }
    showAges();
    document.dispatchEvent(new CustomEvent("vesselq:changed"));
  } catch {
    setState("off");
  }
}

function refreshSoon() {
  if (waiting === null) waiting = setTimeout(refresh, Math.max(60, LEAST_PAUSE_MS - (performance.now() - last)));
}

/** Say whether the page follows the record: "on", "slow" or "off". */
function setState(state) {
  if (!shown) return;
  const text = shown.dataset[state];
  if (shown.textContent !== text) shown.textContent = text;
  shown.classList.toggle("off", state === "off");
  shown.classList.toggle("slow", state === "slow");
}

function onChange({ studies }) {
  const wanted = parts().map((part) => part.dataset.live);
  if (wanted.some((study) => study === "" || studies === null || studies.includes(study))) refreshSoon();
}

function onProgress({ jobs }) {
  for (const job of jobs) {
    for (const bar of document.querySelectorAll(`.bar[data-job="${CSS.escape(job.job_id)}"]`)) {
      bar.querySelector("progress").value = job.share;
      bar.querySelector(".bar-share").textContent = `${Math.round(100 * job.share)} %`;
      const name = stages.get(job.stage) ?? job.stage;
      const stage = bar.querySelector(".bar-stage");
      if (stage.textContent !== name) stage.textContent = name;
    }
  }
}

let source = null;
let again = null;

function connect() {
  again = null;
  source = new EventSource("/events");
  source.addEventListener("open", () => setState("on"));
  source.addEventListener("ready", refreshSoon); // what changed since the page was made, or while nobody listened
  source.addEventListener("error", onError);
  source.addEventListener("change", (event) => onChange(JSON.parse(event.data)));
  source.addEventListener("progress", (event) => onProgress(JSON.parse(event.data)));
}

function onError({ target }) {
  if (target.readyState !== EventSource.CLOSED) { // the browser goes on trying by itself
    setState("off");
    return;
  }
  again = setTimeout(connect, WITHOUT_STREAM_MS); // refused: it would not
  refreshSoon();
}

/** Browsers open few connections to one site: a page that nobody sees gives its own back. */
function follow() {
  source?.close();
  clearTimeout(again);
  source = again = null;
  if (!document.hidden) connect();
}

if (parts().length) {
  for (const one of document.querySelectorAll("[data-stage-name]")) stages.set(one.dataset.stageName, one.textContent);
  const periods = parts().map((part) => Number(part.dataset.liveSeconds)).filter((seconds) => seconds > 0);
  if (periods.length) setInterval(() => document.hidden || refreshSoon(), 1000 * Math.min(...periods));
  document.addEventListener("visibilitychange", follow);
  follow();
}
