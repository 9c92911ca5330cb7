// Drawing: elements, scales, the linked panels of the course of training, and the chart of held-out text.
"use strict";

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "colour") element.style.setProperty("--colour", value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function s(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "colour") element.style.setProperty("--colour", value);
    else element.setAttribute(name, value);
  }
  element.append(...children.flat());
  return element;
}

const MINUS = "\u2212";
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const format = {
  integer: (value) => isNumber(value) ? Math.round(value).toLocaleString("en") : "–",
  fixed: (value, digits = 3) => isNumber(value) ? value.toFixed(digits).replace("-", MINUS) : "–",
  percent: (value, digits = 1) => isNumber(value) ? `${(100 * value).toFixed(digits).replace("-", MINUS)} %` : "–",
  change(value, digits = 1) {
    if (!isNumber(value)) return "–";
    const text = Math.abs(100 * value).toFixed(digits);
    return `${Number(text) === 0 ? "±" : value > 0 ? "+" : MINUS}${text} %`;
  },
  short(value) {
    if (!isNumber(value)) return "–";
    const units = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]];
    for (const [size, unit] of units) {
      if (Math.abs(value) >= size) return `${(value / size).toPrecision(3)} ${unit}`;
    }
    return String(Number(value.toPrecision(3)));
  },
  tick: (value) => format.short(value).replace(/^[\d.]+/, (digits) => String(Number(digits))),
  scientific(value) {
    if (!isNumber(value)) return "–";
    if (value === 0) return "0";
    if (Math.abs(value) >= 0.01 && Math.abs(value) < 1e4) return String(Number(value.toPrecision(3)));
    const [digits, power] = value.toExponential(2).split("e");
    return `${Number(digits)}e${Number(power)}`.replace("-", MINUS);
  },
  duration(seconds) {
    if (!isNumber(seconds)) return "–";
    const whole = Math.round(seconds);
    if (whole < 60) return `${whole} s`;
    if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
    return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  },
};

/** Round numbers from `low` to `high`, about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999);
  const found = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index++) {
    found.push(Number((index * step).toPrecision(12)));
  }
  return found;
}

/** 1, 2 and 5 times the powers of ten from `low` to `high`; plain ticks where these are too few. */
function logTicks(low, high, count) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const factor of [1, 2, 5]) {
      const tick = Number(`${factor}e${power}`);
      if (tick >= low && tick <= high) found.push(tick);
    }
  }
  return found.length >= 3 ? found : ticks(low, high, count);
}

/** The y scale of the values seen. */
function verticalScale(values, options, top, bottom, count) {
  const seen = values.filter((value) => isNumber(value) && (!options.log || value > 0));
  let low = seen.length ? Math.min(...minmax(seen)) : 0;
  let high = seen.length ? Math.max(...minmax(seen)) : 1;
  if (options.fromZero && !options.log) low = Math.min(0, low);
  const room = options.log ? 0 : (high - low || Math.abs(high) || 1) * 0.06;
  if (options.log) { low /= 1.03; high *= 1.03; } else { high += room; if (!(options.fromZero && low === 0)) low -= room; }
  const to = options.log ? Math.log : (value) => value;
  const place = (value) => bottom - (to(value) - to(low)) / (to(high) - to(low)) * (bottom - top);
  return { place, ticks: options.log ? logTicks(low, high, count) : ticks(low, high, count) };
}

function minmax(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
  return [low, high];
}

/** The mean of an exponential mean from the left and one from the right, so that it does not lag; anew in each stage. */
function smooth(values, stages, weight) {
  const run = (order) => {
    let mean = 0, mass = 0, stage = null;
    const means = new Array(values.length);
    for (const index of order) {
      if (stages[index] !== stage) { mean = 0; mass = 0; stage = stages[index]; }
      if (isNumber(values[index])) { mean = weight * mean + (1 - weight) * values[index]; mass = weight * mass + (1 - weight); }
      means[index] = mass > 0 ? mean / mass : null;
    }
    return means;
  };
  const indices = [...values.keys()];
  const left = run(indices), right = run(indices.reverse());
  return left.map((mean, index) => isNumber(mean) && isNumber(right[index]) ? (mean + right[index]) / 2 : mean ?? right[index]);
}

/** A path through points; where there are several to a pixel, through the lowest and the highest of each. */
function path(xs, ys, breaks) {
  let text = "", pen = false, column = null, group = [];
  const flush = () => {
    if (!group.length) return;
    const [low, high] = minmax(group);
    const last = group[group.length - 1];
    for (const y of group.length > 2 ? [group[0], low, high, last] : group) {
      text += `${pen ? "L" : "M"}${column.toFixed(1)} ${y.toFixed(1)}`;
      pen = true;
    }
    group = [];
  };
  for (let index = 0; index < xs.length; index++) {
    if (!isNumber(ys[index]) || (breaks && breaks[index])) { flush(); pen = false; }
    if (!isNumber(ys[index])) continue;
    const x = Math.round(xs[index] * 2) / 2;
    if (x !== column) { flush(); column = x; }
    group.push(ys[index]);
  }
  flush();
  return text;
}

/** Draws again whenever the element's width changes. */
function drawn(element, draw) {
  let width = 0;
  const redraw = () => { if (width > 0) element.replaceChildren(...[draw(width)].flat()); };
  new ResizeObserver(() => {
    const now = Math.floor(element.clientWidth);
    if (now !== width) { width = now; requestAnimationFrame(redraw); }
  }).observe(element);
  return redraw;
}

/** One of several: a row of buttons. */
function choice(label, options, chosen, onChoose) {
  const buttons = options.map(([value, text]) => h("button", {
    type: "button", "aria-pressed": String(value === chosen),
    onclick() {
      buttons.forEach((button) => button.setAttribute("aria-pressed", String(button === this)));
      onChoose(value);
    },
  }, text));
  return h("span", { class: "choice", role: "group", "aria-label": label }, buttons);
}

/** A tooltip that follows the pointer over an element. */
function tip(element, text) {
  const box = document.getElementById("tip");
  const show = (event) => {
    box.textContent = text;
    box.hidden = false;
    const x = Math.min(event.clientX + 14, innerWidth - box.offsetWidth - 8);
    const below = event.clientY + 18 + box.offsetHeight < innerHeight;
    box.style.left = `${Math.max(8, x)}px`;
    box.style.top = `${below ? event.clientY + 18 : event.clientY - box.offsetHeight - 10}px`;
  };
  element.addEventListener("pointermove", show);
  element.addEventListener("pointerleave", () => { box.hidden = true; });
  element.setAttribute("aria-label", text.replace(/\n/g, ", "));
  return element;
}

/** The linked panels over the steps: zoom by drag, a read-out under the pointer, arrow keys. */
class Course {
  static PANELS = [
    { key: "loss", name: "Loss", unit: "nats per token", height: 250, colour: "var(--cinnabar)", value: (v) => format.fixed(v, 4) },
    { key: "learningRate", name: "Learning rate", height: 92, colour: "var(--indigo)", fromZero: true, plain: true, value: format.scientific },
    { key: "gradNorm", name: "Gradient norm", unit: "before clipping", height: 92, colour: "var(--plum)", fromZero: true, value: (v) => format.fixed(v, 3) },
    { key: "tokensPerSecond", name: "Tokens per second", height: 92, colour: "var(--teal)", fromZero: true, value: format.integer },
  ];
  static LEFT = 52;
  static RIGHT = 6;

  constructor(report) {
    this.curve = report.curve;
    this.stages = report.stages;
    this.full = [this.curve.step[0], Math.max(this.curve.step.at(-1), this.curve.step[0] + 1)];
    this.range = this.full;
    this.weight = 0.9;
    this.log = false;
    this.at = this.curve.step.length - 1;
    this.readout = h("dl", { class: "readout", "aria-live": "off" });
    this.reset = h("button", { class: "reset", type: "button", hidden: "", onclick: () => this.zoom(this.full) }, "Whole run");
    this.panels = Course.PANELS.map((panel) => ({ ...panel, box: h("div", { class: "panel" }) }));
    this.ribbon = h("div", { class: "ribbon" });
    this.element = h("div", { class: "course sheet", tabindex: "0", role: "group", "aria-label":
      "Loss, learning rate, gradient norm and throughput over the steps. Arrow keys move the read-out.", onkeydown: (event) => this.key(event) },
      h("div", { class: "tools" },
        choice("Smoothing", [[0, "Raw"], [0.9, "Smooth"], [0.97, "Smoother"]], this.weight, (weight) => { this.weight = weight; this.draw(); }),
        choice("Scale of the loss", [[false, "Linear"], [true, "Log"]], this.log, (log) => { this.log = log; this.draw(); }),
        this.reset, h("span", { class: "hint push" }, "Drag to zoom, double-click for the whole run")),
      this.readout, this.ribbon, this.panels.map((panel) => panel.box));
    this.redraws = [drawn(this.ribbon, (width) => this.drawRibbon(width)),
      ...this.panels.map((panel, index) => drawn(panel.box, (width) => this.drawPanel(panel, width, index === this.panels.length - 1)))];
    this.read(this.at);
  }

  draw() { this.redraws.forEach((redraw) => redraw()); this.read(this.at); }

  zoom(range) {
    this.range = range[1] - range[0] < 2 ? this.full : range;
    this.reset.hidden = this.range === this.full;
    this.draw();
  }

  key(event) {
    const stride = event.shiftKey ? 10 : 1;
    if (event.key === "ArrowLeft") this.read(Math.max(0, this.at - stride));
    else if (event.key === "ArrowRight") this.read(Math.min(this.curve.step.length - 1, this.at + stride));
    else if (event.key === "Escape") this.zoom(this.full);
    else return;
    event.preventDefault();
  }

  x(step, width) {
    const [first, last] = this.range;
    return Course.LEFT + (step - first) / (last - first) * (width - Course.LEFT - Course.RIGHT);
  }

  step(x, width) {
    const [first, last] = this.range;
    const share = (x - Course.LEFT) / (width - Course.LEFT - Course.RIGHT);
    return first + Math.min(1, Math.max(0, share)) * (last - first);
  }

  /** The indices of the points in view, and one more on each side. */
  view() {
    const steps = this.curve.step;
    let first = steps.findIndex((step) => step >= this.range[0]);
    let last = steps.findLastIndex((step) => step <= this.range[1]);
    return [Math.max(0, first - 1), Math.min(steps.length - 1, last + 1)];
  }

  /** Stages and buckets as a band above the panels. */
  drawRibbon(width) {
    const right = width - Course.RIGHT;
    const svg = s("svg", { height: 40, viewBox: `0 0 ${width} 40`, "aria-hidden": "true" });
    const clip = (from, to) => [Math.max(Course.LEFT, this.x(from - 0.5, width)), Math.min(right, this.x(to + 0.5, width))];
    for (const stage of this.stages) {
      const [from, to] = clip(stage.firstStep, stage.lastStep);
      if (to - from < 1) continue;
      const room = Math.floor((to - from) / 6.6);
      const name = stage.name.length > room ? `${stage.name.slice(0, Math.max(0, room - 1))}…` : stage.name;
      if (room > 2) svg.append(s("text", { class: "name", x: from + 1, y: 12 }, name));
      stage.buckets.forEach((bucket, index) => {
        const [start, end] = clip(bucket.firstStep, bucket.lastStep);
        if (end - start < 1) return;
        svg.append(s("rect", { class: index % 2 ? "even" : "odd", x: start, y: 19, width: Math.max(0.5, end - start - 1), height: 15, rx: 2 }));
        if (end - start > 20) {
          const label = end - start > 66 ? `bucket ${bucket.bucket + 1}` : bucket.bucket + 1;
          svg.append(s("text", { x: (start + end) / 2, y: 30.5, "text-anchor": "middle" }, String(label)));
        }
      });
    }
    return svg;
  }

  drawPanel(panel, width, isLast) {
    const bottom = panel.height - (isLast ? 20 : 6), top = 20;
    const svg = s("svg", { height: panel.height, viewBox: `0 0 ${width} ${panel.height}`, role: "img", "aria-label": panel.name });
    const [first, last] = this.view();
    const steps = this.curve.step.slice(first, last + 1), stages = this.curve.stage.slice(first, last + 1);
    const raw = this.curve[panel.key];
    panel.smoothed = panel.plain || this.weight === 0 ? null : smooth(raw, this.curve.stage, this.weight);
    const values = raw.slice(first, last + 1);
    const inRange = values.filter((_, index) => steps[index] >= this.range[0] && steps[index] <= this.range[1]);
    const scale = verticalScale(inRange, { fromZero: panel.fromZero, log: panel.key === "loss" && this.log }, top, bottom, panel.height > 150 ? 6 : 3);
    for (const tick of scale.ticks) {
      const y = scale.place(tick);
      if (y < top - 2 || y > bottom + 1) continue;
      svg.append(s("line", { class: "grid", x1: Course.LEFT, x2: width - Course.RIGHT, y1: y, y2: y }));
      const label = panel.key === "learningRate" ? format.scientific(tick) : format.tick(tick);
      svg.append(s("text", { x: Course.LEFT - 8, y: y + 4, "text-anchor": "end" }, label));
    }
    for (const stage of this.stages) {
      for (const bucket of stage.buckets) {
        const isStage = bucket.firstStep === stage.firstStep;
        const x = this.x(bucket.firstStep - 0.5, width);
        if (x > Course.LEFT + 1 && x < width - Course.RIGHT) {
          svg.append(s("line", { class: isStage ? "stage" : "bucket", x1: x, x2: x, y1: top, y2: bottom }));
        }
      }
    }
    const xs = steps.map((step) => this.x(step, width));
    const breaks = stages.map((stage, index) => index > 0 && stage !== stages[index - 1]);
    const inner = s("svg", { x: Course.LEFT, y: 0, width: width - Course.LEFT - Course.RIGHT, height: panel.height, viewBox:
      `${Course.LEFT} 0 ${width - Course.LEFT - Course.RIGHT} ${panel.height}`, overflow: "hidden", style: "overflow:hidden" });
    const line = (series, kind) => inner.append(s("path", { class: `line ${kind}`, colour: panel.colour, d: path(xs, series.map((v) => isNumber(v) ? scale.place(v) : null), breaks) }));
    line(values, panel.smoothed ? "raw" : "plain");
    if (panel.smoothed) line(panel.smoothed.slice(first, last + 1), "");
    svg.append(inner);
    if (panel.key === "loss") {
      this.curve.skipped.slice(first, last + 1).forEach((skipped, index) => {
        if (skipped) svg.append(s("line", { class: "skip", x1: xs[index], x2: xs[index], y1: bottom - 7, y2: bottom + 1 }, s("title", {}, "skipped")));
      });
    }
    svg.append(s("text", { x: Course.LEFT, y: 12 }, s("tspan", { class: "name" }, panel.name), panel.unit ? s("tspan", { dx: 7 }, panel.unit) : ""));
    if (isLast) {
      for (const tick of ticks(this.range[0], this.range[1], Math.max(2, width / 110)).filter(Number.isInteger)) {
        svg.append(s("text", { x: this.x(tick, width), y: panel.height - 4, "text-anchor": "middle" }, tick.toLocaleString("en")));
      }
    }
    panel.width = width; panel.scale = scale;
    panel.cursor = s("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" });
    panel.dot = s("circle", { class: "dot", colour: panel.colour, r: 3.6, visibility: "hidden" });
    panel.selection = s("rect", { class: "selection", y: top, height: bottom - top, width: 0 });
    svg.append(panel.selection, panel.cursor, panel.dot);
    this.listen(svg, panel);
    return svg;
  }

  listen(svg, panel) {
    let from = null;
    const place = (event) => this.step(event.clientX - svg.getBoundingClientRect().left, panel.width);
    svg.addEventListener("pointerdown", (event) => { from = place(event); if (event.pointerType === "mouse") svg.setPointerCapture(event.pointerId); });
    svg.addEventListener("pointermove", (event) => {
      const to = place(event);
      this.read(this.nearest(to));
      if (from === null || event.pointerType !== "mouse") return;
      for (const other of this.panels) {
        const [left, right] = [from, to].sort((a, b) => a - b).map((step) => this.x(step, other.width));
        other.selection.setAttribute("x", left);
        other.selection.setAttribute("width", right - left);
      }
    });
    svg.addEventListener("pointerup", (event) => {
      const to = place(event);
      const enough = from !== null && event.pointerType === "mouse" && Math.abs(this.x(from, panel.width) - this.x(to, panel.width)) > 6;
      if (enough) this.zoom([from, to].sort((a, b) => a - b));
      from = null;
    });
    svg.addEventListener("dblclick", () => this.zoom(this.full));
  }

  nearest(step) {
    const steps = this.curve.step;
    let low = 0, high = steps.length - 1;
    while (low < high) { const middle = (low + high) >> 1; if (steps[middle] < step) low = middle + 1; else high = middle; }
    return low > 0 && step - steps[low - 1] < steps[low] - step ? low - 1 : low;
  }

  /** Shows the figures of a point. */
  read(index) {
    this.at = index;
    const curve = this.curve, step = curve.step[index];
    const entry = (name, value, kind) => h("div", {}, h("dt", {}, name), h("dd", { class: kind }, value));
    const flags = [curve.skipped[index] ? "skipped" : null, curve.clipped[index] ? "clipped" : null].filter(Boolean).join(", ");
    this.readout.replaceChildren(
      entry(curve.stepsPerPoint > 1 ? `Step (mean of ${curve.stepsPerPoint})` : "Step", format.integer(step)),
      entry("Stage", curve.stage[index]), entry("Bucket", String(curve.bucket[index] + 1)),
      ...this.panels.map((panel) => entry(panel.name, panel.value(curve[panel.key][index]))),
      entry("Optimizer", flags || "stepped", curve.skipped[index] ? "flag" : null));
    for (const panel of this.panels) {
      if (!panel.cursor) continue;
      const x = this.x(step, panel.width);
      const shown = x >= Course.LEFT - 0.5 && x <= panel.width - Course.RIGHT + 0.5;
      const value = (panel.smoothed || curve[panel.key])[index];
      panel.cursor.setAttribute("visibility", shown ? "visible" : "hidden");
      panel.dot.setAttribute("visibility", shown && isNumber(value) ? "visible" : "hidden");
      panel.cursor.setAttribute("x1", x); panel.cursor.setAttribute("x2", x);
      panel.dot.setAttribute("cx", x);
      if (isNumber(value)) panel.dot.setAttribute("cy", panel.scale.place(value));
    }
  }
}
