// Small SVG charts. Every drawing fills its box: x and y run from 0 to 100 and are stretched, strokes are not.

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function canvas(box, label) {
  let drawing = box.firstElementChild;
  if (!(drawing instanceof SVGSVGElement)) {
    drawing = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img" });
    box.prepend(drawing);
  }
  drawing.setAttribute("aria-label", label);
  drawing.replaceChildren();
  return drawing;
}

// Points as path data; null interrupts the line.
export function linePath(values, top, bottom = 0) {
  const step = 100 / Math.max(1, values.length - 1);
  let data = "";
  let open = false;
  values.forEach((value, index) => {
    if (value === null) {
      open = false;
      return;
    }
    data += `${open ? "L" : "M"}${(index * step).toFixed(2)} ${(100 - (96 * (value - bottom)) / (top - bottom)).toFixed(2)}`;
    open = true;
  });
  return data;
}

// A line over a soft area, from zero up to the largest value (or `floor`, if that is larger).
export function sparkline(box, values, { label, floor = 1, mark = null }) {
  const drawing = canvas(box, label);
  const top = Math.max(floor, ...values.map((value) => value ?? 0));
  const filled = values.map((value) => value ?? 0);
  drawing.append(svg("path", { class: "area", d: `${linePath(filled, top)}L100 100L0 100Z` }));
  if (mark !== null && mark <= top) {
    const y = 100 - (96 * mark) / top;
    drawing.append(svg("path", { class: "mark", d: `M0 ${y}H100` }));
  }
  drawing.append(svg("path", { class: "line", d: linePath(values, top) }));
}

export function bars(box, values, { label }) {
  const drawing = canvas(box, label);
  const top = Math.max(1, ...values);
  const width = 100 / values.length;
  values.forEach((value, index) => {
    if (!value) return;
    const height = Math.max(6, (96 * value) / top);
    drawing.append(svg("rect", { class: "bar", x: index * width, y: 100 - height, width: width * 0.8, height }));
  });
}

// Values of several lines on top of each other. `lines`: [{values, color}], all of one length.
export function stacked(box, lines, { label, swaps, unit }) {
  const drawing = canvas(box, label);
  const length = lines.length ? lines[0].values.length : 0;
  const totals = Array.from({ length }, (_, index) => lines.reduce((sum, line) => sum + line.values[index], 0));
  const top = Math.max(1, ...totals);
  // Painted from the back: the whole first, then each time without the topmost line.
  for (let shown = lines.length; shown > 0; shown -= 1) {
    const { values, color } = lines[shown - 1];
    const heights = totals.map((_, index) => lines.slice(0, shown).reduce((sum, line) => sum + line.values[index], 0));
    const edge = heights.map((height, index) => (values[index] ? height : null));
    drawing.append(svg("path", { class: `stack ${color}`, d: `${linePath(heights, top)}L100 100L0 100Z` }));
    drawing.append(svg("path", { class: `edge ${color}`, d: linePath(edge, top) }));
  }
  if (length) swapLines(drawing, swaps);
  scale(box, length ? [[96, unit(top)], [0, unit(0)]] : []);
}

// Several lines on one scale that fits what is shown. `lines`: [{values, color}].
export function lines(box, all, { label, swaps }) {
  const drawing = canvas(box, label);
  const known = all.flatMap((line) => line.values.filter((value) => value !== null));
  const [least, most] = known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
  const room = Math.max((most - least) * 0.2, most * 0.05, 1e-3);
  const [bottom, top] = [Math.max(0, least - room), most + room];
  for (const { values, color } of all) {
    drawing.append(svg("path", { class: `trace ${color}`, d: linePath(bridged(values), top, bottom) }));
  }
  if (known.length) swapLines(drawing, swaps);
  const marks = [[96, top], [48, (top + bottom) / 2], [0, bottom]];
  scale(box, known.length ? marks.map(([height, value]) => [height, value.toFixed(3)]) : []);
}

// Labels mature in bursts: between two known values the line goes straight on. A single value becomes a dash.
function bridged(values) {
  const filled = [...values];
  let last = -1;
  values.forEach((value, index) => {
    if (value === null) return;
    for (let gap = last + 1; last >= 0 && gap < index; gap += 1) {
      filled[gap] = values[last] + ((value - values[last]) * (gap - last)) / (index - last);
    }
    last = index;
  });
  if (last >= 0 && last + 1 < values.length) filled[last + 1] = values[last];
  return filled;
}

function swapLines(drawing, swaps) {
  for (const x of swaps) drawing.append(svg("path", { class: "swap", d: `M${x} 0V100` }));
}

// The scale's labels are HTML, because text in a stretched drawing would be stretched too.
function scale(box, marks) {
  box.classList.toggle("blank", !marks.length);
  box.querySelectorAll(".tick").forEach((tick) => tick.remove());
  for (const [height, text] of marks) {
    const tick = document.createElement("span");
    tick.className = "tick";
    tick.style.bottom = `${height}%`;
    tick.textContent = text;
    box.append(tick);
  }
}
