// The rows of live sessions. A row stays in place while its session lives; its line and number glide to their new values.

import { linePath, svg } from "./charts.js";
import { $, chance, element, setText } from "./format.js";
import { EVENT_TYPES, icon, label } from "./icons.js";

const GLIDE_MS = 400;
// Small probabilities are where the story is: the line's height is their square root.
const height = (p) => (p === null ? null : Math.sqrt(p));
const still = matchMedia("(prefers-reduced-motion: reduce)");

const rows = new Map();

export function showSessions(sessions) {
  const list = $("sessions");
  const present = new Set(sessions.map((session) => session.key));
  const places = [...list.children];
  sessions.forEach((session, place) => {
    const row = rows.get(session.key) ?? newRow(session.key);
    // A new session takes the place of one that is gone, so that the others do not move.
    if (!row.node.isConnected) {
      const free = places.find((node) => !present.has(node.dataset.key) && node.isConnected);
      if (free) {
        rows.delete(free.dataset.key);
        free.replaceWith(row.node);
      } else {
        list.insertBefore(row.node, list.children[place] ?? null);
      }
    }
    update(row, session);
  });
  for (const node of [...list.children]) {
    if (present.has(node.dataset.key)) continue;
    rows.delete(node.dataset.key);
    node.remove();
  }
  $("sessions-empty").hidden = sessions.length > 0;
  list.hidden = sessions.length === 0;
}

export function showLegend() {
  for (const type of EVENT_TYPES) {
    const entry = element("li");
    entry.append(icon(type), element("span", "", label(type)));
    $("icon-legend").append(entry);
  }
}

function newRow(key) {
  const node = element("li", "session");
  node.dataset.key = key;
  const row = {
    node,
    visitor: element("span", "visitor"),
    about: element("span", "about"),
    steps: element("div", "steps"),
    drawing: svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" }),
    area: svg("path", { class: "area" }),
    line: svg("path", { class: "line" }),
    chance: element("span", "chance", "–"),
    note: element("span", "note"),
    drawn: [],
    shownIds: "",
    frame: 0,
  };
  const who = element("div", "who");
  who.append(row.visitor, row.about);
  const trend = element("div", "trend");
  row.drawing.append(row.area, row.line);
  trend.append(row.drawing);
  const result = element("div", "result");
  result.append(row.chance, row.note);
  node.append(who, row.steps, trend, result);
  rows.set(key, row);
  return row;
}

function update(row, session) {
  const { node } = row;
  setText(row.visitor, session.visitor);
  setText(row.about, `${session.position} ${session.position === 1 ? "event" : "events"}`);
  node.classList.toggle("bought", session.bought);
  node.classList.toggle("quiet", session.idle_s >= 15);
  const note = session.bought ? "bought" : session.path === "fallback" ? "fallback" : "";
  setText(row.note, note);
  showSteps(row, session.steps);
  const line = session.steps.map((step) => step.p).filter((p) => p !== null);
  glide(row, line, session.p);
}

function showSteps(row, steps) {
  const state = JSON.stringify(steps.map((step) => [step.type, step.item]));
  if (state === row.shownIds) return;
  row.shownIds = state;
  row.steps.replaceChildren(
    ...steps.map((step) => {
      const holder = element("span", `step ${step.type ?? "other"}`);
      holder.title = step.item ? `${label(step.type)}: ${step.item}` : label(step.type);
      holder.append(icon(step.type));
      return holder;
    }),
  );
  row.steps.setAttribute("role", "img");
  row.steps.setAttribute("aria-label", steps.map((step) => label(step.type)).join(", "));
}

function glide(row, target, newest) {
  if (newest === null || !target.length) return;
  const from = [...row.drawn];
  if (from.length === target.length && from.every((p, index) => p === target[index])) return;
  // Points that are new start at the height of the last known one, so that the line grows out of its end.
  const start = target.map((p, index) => from[index] ?? from.at(-1) ?? p);
  const began = performance.now();
  const draw = (now) => {
    // A frame's time may lie before the moment that asked for it.
    const share = still.matches || document.hidden ? 1 : Math.min(1, Math.max(0, (now - began) / GLIDE_MS));
    const eased = 1 - (1 - share) ** 3;
    const points = target.map((p, index) => (share === 1 ? p : start[index] + (p - start[index]) * eased));
    paint(row, points);
    if (share < 1) row.frame = requestAnimationFrame(draw);
  };
  cancelAnimationFrame(row.frame);
  draw(began);
}

function paint(row, points) {
  row.drawn = points;
  const heights = (points.length === 1 ? [points[0], points[0]] : points).map(height);
  const data = linePath(heights, 1);
  row.line.setAttribute("d", data);
  row.area.setAttribute("d", `${data}L100 100L0 100Z`);
  setText(row.chance, chance(points.at(-1)));
}
