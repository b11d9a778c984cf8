// Model versions: who answered, how good it turned out to be, and the pointer's history.

import { lines, stacked } from "./charts.js";
import { $, ago, count, element, moment, percent, setText } from "./format.js";

const COLORS = 6;
const HORIZONS = { "5m": "5 min", "30m": "30 min", session: "session", "24h": "24 h", "7d": "7 days" };

// A version keeps its colour as long as the page is open.
const colors = new Map();
let horizon = "session";
let chosen = false;
let newest = [];

export function showVersions(versions, now) {
  const axis = versions.lines.length ? versions.lines[0].logloss.length : 0;
  const startMs = versions.end_ms - axis * versions.bin_s * 1000;
  const place = (atMs) => (100 * (atMs - startMs)) / (versions.end_ms - startMs);
  const swaps = versions.swaps.map((swap) => place(swap.at_ms)).filter((x) => x > 0 && x < 100);
  const scored = versions.lines.filter((line) => line.scores.some(Boolean));
  stacked(
    $("versions-chart"),
    scored.map((line) => ({ values: line.scores, color: color(line.version) })),
    { label: "scores per second by version", swaps, unit: (value) => `${count(value / versions.bin_s)}/s` },
  );
  const labelled = versions.lines.filter((line) => line.logloss.some((value) => value !== null));
  lines(
    $("quality-chart"),
    labelled.map((line) => ({ values: line.logloss, color: color(line.version) })),
    { label: "log-loss by version", swaps },
  );
  showLegend(versions.lines.map((line) => line.version));
  showSwaps(versions.swaps, now);
}

export function showQuality(quality) {
  newest = quality;
  const present = Object.keys(HORIZONS).filter((name) => quality.some((row) => row.horizon === name));
  if (!chosen && present.length && !present.includes(horizon)) horizon = present.at(-1);
  if (!chosen && present.includes("session")) horizon = "session";
  showHorizons(present);
  const body = $("quality").tBodies[0];
  body.replaceChildren(
    ...quality.filter((row) => row.horizon === horizon).map((row) => {
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
  $("quality").hidden = !present.length;
  $("quality-empty").hidden = present.length > 0;
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
        showQuality(newest);
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
  if (!colors.has(version)) colors.set(version, `c${colors.size % COLORS}`);
  return colors.get(version);
}
