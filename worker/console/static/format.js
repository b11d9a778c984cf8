// Numbers and times as text, and the one way in which text enters the page: textContent.

export const $ = (id) => document.getElementById(id);

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Touches the page only when something changed: twice a second adds up.
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

export function count(value) {
  if (value < 10 && value % 1) return value.toFixed(1);
  return Math.round(value).toLocaleString("en-US");
}

export function milliseconds(value) {
  if (value === null) return "–";
  if (value < 10) return `${value.toFixed(1)} ms`;
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(value < 10000 ? 2 : 1)} s`;
}

// A probability on a row of sessions: one digit is enough, and certainty is never claimed.
export function chance(p) {
  const value = p * 100;
  if (value < 0.1) return "<0.1%";
  return value > 99.9 ? ">99.9%" : `${value.toFixed(1)}%`;
}

// Never rounds to 0 or 100 what is not: 99.96% is not "100%".
export function percent(share) {
  if (share === null) return "–";
  if (share === 0 || share === 1) return `${share * 100}%`;
  const value = share * 100;
  if (value < 0.01) return "<0.01%";
  if (value > 99.99) return ">99.99%";
  return `${value.toFixed(value < 1 || value > 99 ? 2 : 1)}%`;
}

export function ago(atMs, nowMs) {
  const seconds = Math.max(0, Math.round((nowMs - atMs) / 1000));
  if (seconds < 3) return "now";
  if (seconds < 90) return `${seconds} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}

export function moment(ms) {
  return `${new Date(ms).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}
