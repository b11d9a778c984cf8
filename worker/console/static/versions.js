// Model versions: who answered, how good it turned out to be, and the pointer's history.

import { lines, stacked } from "./charts.js";
import { $, ago, count, element, moment, percent, setText } from "./format.js";

const COLORS = ["c0", "c1", "c3", "c5", "c4"];
const HORIZONS = { "5m": "5 min", "30m": "30 min", session: "this session", "24h": "24 h", "7d": "7 days" };

// A version keeps its colour as long as the page is open; the fallback's is that of its part of the bar above.
const colors = new Map([["fallback", "c2"]]);
let horizon = "session";
let chosen = false;
let newest = null;

export function showVersions(snapshot) {
  newest = snapshot;
  const { versions, quality } = snapshot;
  const present = Object.keys(HORIZONS).filter((name) => quality.some((row) => row.horizon === name));
  // Until the reader chooses: the session, or as long as no session is over, the longest horizon with labels.
  if (!chosen) horizon = present.includes("session") || !present.length ? "session" : present.at(-1);
  showHorizons(present);
  showCharts(versions);
  showLegend(versions.lines.map((line) => line.version));
  showSwaps(versions.swaps, snapshot.now_ms);
  showQuality(quality.filter((row) => row.horizon === horizon));
}

function showCharts({ lines: all, swaps, end_ms: endMs, bin_s: binS, bins }) {
  const startMs = endMs - bins * binS * 1000;
  const places = swaps.map((swap) => (100 * (swap.at_ms - startMs)) / (endMs - startMs)).filter((x) => x > 0 && x < 100);
  stacked(
    $("versions-chart"),
    all.filter((line) => line.scores.some(Boolean)).map((line) => ({ values: line.scores, color: color(line.version) })),
    { label: "scores per second by version", swaps: places, unit: (value) => `${count(value / binS)}/s` },
  );
  lines(
    $("quality-chart"),
    all.filter((line) => horizon in line.logloss).map((line) => ({ values: line.logloss[horizon], color: color(line.version) })),
    { label: "log-loss by version", swaps: places },
  );
  setText($("quality-caption"), `Log-loss on matured labels: purchase, ${HORIZONS[horizon]}`);
}

function showQuality(rows) {
  $("quality").tBodies[0].replaceChildren(
    ...rows.map((row) => {
      const line = element("tr");
      const name = element("td");
      name.append(chip(row.version));
      line.append(
        name,
        element("td", "", count(row.labels)),
        element("td", row.logloss < row.base ? "good" : "", row.logloss.toFixed(4)),
        element("td", "wide-only", row.base.toFixed(4)),
        element("td", "", percent(row.predicted)),
        element("td", "", percent(row.happened)),
      );
      return line;
    }),
  );
  $("quality").hidden = !rows.length;
  $("quality-empty").hidden = rows.length > 0;
}

function showHorizons(present) {
  const group = $("horizons");
  const state = `${present} ${horizon}`;
  if (group.dataset.state === state) return;
  group.dataset.state = state;
  group.replaceChildren(
    ...present.map((name) => {
      const button = element("button", "", HORIZONS[name]);
      button.type = "button";
      button.setAttribute("aria-pressed", String(name === horizon));
      button.addEventListener("click", () => {
        horizon = name;
        chosen = true;
        showVersions(newest);
      });
      return button;
    }),
  );
}

function showSwaps(swaps, now) {
  $("swaps-empty").hidden = swaps.length > 0;
  $("swaps").replaceChildren(
    ...swaps.slice(0, 5).map((swap, index) => {
      const entry = element("li", index === 0 ? "current" : "");
      const head = element("div", "swap-head");
      head.append(chip(swap.version));
      if (swap.previous !== null) head.append(element("span", "muted", `after ${swap.previous}`));
      head.append(element("span", "muted when", ago(swap.at_ms, now)));
      entry.append(head, element("p", "", swap.why));
      const until = swap.trained_until_ms > 0 ? `, labels until ${moment(swap.trained_until_ms)}` : "";
      entry.append(element("p", "muted", `by ${swap.by}${until}`));
      return entry;
    }),
  );
}

function showLegend(versions) {
  const state = versions.join(" ");
  const legend = $("version-legend");
  if (legend.dataset.state === state) return;
  legend.dataset.state = state;
  legend.replaceChildren(
    ...versions.map((version) => {
      const entry = element("li");
      entry.append(chip(version));
      return entry;
    }),
  );
}

function chip(version) {
  const made = element("span", `chip ${color(version)}`);
  made.append(element("i"), element("span", "", version));
  return made;
}

function color(version) {
  if (!colors.has(version)) colors.set(version, COLORS[(colors.size - 1) % COLORS.length]);
  return colors.get(version);
}
