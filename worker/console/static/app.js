// Takes snapshots from the console and shows them. When they stop coming, the page says so and stays readable.

import { bars, sparkline } from "./charts.js";
import { $, ago, count, element, milliseconds, percent, setText } from "./format.js";
import { showLegend, showSessions } from "./sessions.js";
import { showVersions } from "./versions.js";

// Snapshots come twice a second; a silence this long means that something is stuck.
const SILENT_MS = 6000;

const STATUS = {
  connecting: ["Connecting", "", ""],
  waiting: ["Waiting for topics", "Kafka answers, but topics are missing.", ""],
  live: ["Live", "", ""],
  lost: ["Kafka lost", "No connection to Kafka.", "The page shows what arrived last."],
  offline: ["Console lost", "No connection to the console.", "Reconnecting. Is inkling console still running?"],
};

const LOOP = {
  scoring: ["Score", "Waiting for events."],
  outcomes: ["Join outcomes", "No label has matured yet. inkling labels joins them."],
  finetune: ["Fine-tune", "Nothing trained yet. inkling finetune learns from the log."],
  gate: ["Gate", "No candidate has passed yet."],
  swap: ["Swap", "No version was ever pointed to."],
};

let lastMs = 0;

function show(snapshot) {
  lastMs = performance.now();
  setState(snapshot.feed.state, snapshot.feed.detail);
  showTiles(snapshot);
  showSessions(snapshot.sessions);
  showLoop(snapshot.loop, snapshot.now_ms);
  showVersions(snapshot);
  const sampled = snapshot.feed.skipped ? `, ${count(snapshot.feed.skipped)} records counted but not read` : "";
  setText($("source"), `${snapshot.feed.detail}${sampled}`);
  setText($("clock"), new Date(snapshot.now_ms).toLocaleTimeString("sv-SE"));
}

function showTiles({ traffic, latency, paths, dead }) {
  const idle = !traffic.series.some(Boolean);
  setText($("events"), idle ? "–" : count(traffic.events_per_s));
  setText($("events-foot"), idle ? "no events in the last two minutes" : `${count(traffic.scores_per_s)} scores per second`);
  sparkline($("events-chart"), traffic.series, { label: "events per second" });

  setText($("p99"), milliseconds(latency.p99_ms));
  const within = latency.within === null ? "" : `, ${percent(latency.within)} within ${latency.objective_ms} ms`;
  setText($("latency-foot"), latency.p50_ms === null ? "no scores in the last half minute" : `p50 ${milliseconds(latency.p50_ms)}${within}`);
  sparkline($("latency-chart"), latency.series, { label: "p99 latency by second", floor: 20, mark: latency.objective_ms });

  const scores = paths.model + paths.fallback;
  setText($("model-share"), scores ? percent(paths.model / scores) : "–");
  $("split").classList.toggle("none", !scores);
  $("split").querySelector(".model").style.flexGrow = String(scores ? paths.model / scores : 0);
  $("split").querySelector(".fallback").style.flexGrow = String(scores ? paths.fallback / scores : 0);
  setText($("paths-foot"), scores ? `${count(paths.fallback)} of ${count(scores)} by the fallback` : "no scores in the last two minutes");

  setText($("dead"), count(dead.count));
  const reasons = dead.reasons.map(([reason, times]) => `${reason.replaceAll("_", " ")} ${count(times)}`);
  const share = dead.share === null ? "in the last two minutes" : `${percent(dead.share)} of events`;
  const mostly = dead.reasons.length ? `, mostly ${dead.reasons[0][0].replaceAll("_", " ")}` : "";
  setText($("dead-foot"), dead.count ? `${share}${mostly}` : "none in the last two minutes");
  $("dead-foot").title = reasons.join(", ");
  bars($("dead-chart"), dead.series, { label: "dead letters per second" });
}

function showLoop(loop, now) {
  const list = $("loop");
  for (const step of loop) {
    const [title, nothing] = LOOP[step.name];
    const entry = list.querySelector(`[data-step="${step.name}"]`) ?? newStep(list, step.name, title);
    entry.classList.toggle("active", step.active);
    entry.classList.toggle("never", step.at_ms === null);
    setText(entry.querySelector(".headline"), step.headline || nothing);
    setText(entry.querySelector(".when"), step.at_ms === null ? "" : ago(step.at_ms, now));
    setText(entry.querySelector(".detail"), step.detail);
  }
}

function newStep(list, name, title) {
  const entry = element("li");
  entry.dataset.step = name;
  const head = element("div", "step-head");
  head.append(element("h3", "", title), element("span", "when muted"));
  entry.append(head, element("p", "headline"), element("p", "detail muted"));
  list.append(entry);
  return entry;
}

function setState(state, detail = "") {
  const [status, title, text] = STATUS[state];
  document.body.dataset.state = state;
  setText($("status"), status);
  $("notice").hidden = !title;
  setText($("notice-title"), title);
  setText($("notice-text"), [detail, text].filter(Boolean).join(" "));
}

function connect() {
  const stream = new EventSource("/snapshots");
  stream.onmessage = (message) => show(JSON.parse(message.data));
  stream.onerror = () => {
    setState("offline");
    // The browser gives up after an answer that is no stream, such as "too many pages".
    if (stream.readyState !== EventSource.CLOSED) return;
    setTimeout(connect, 3000);
  };
  return stream;
}

showLegend();
connect();
setInterval(() => {
  if (lastMs && performance.now() - lastMs > SILENT_MS) setState("offline");
}, 1000);
