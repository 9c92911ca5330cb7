// The page: what each section shows of the report's data.
"use strict";

const report = JSON.parse(document.getElementById("data").textContent);
const summary = report.summary || {};
const moments = report.evaluations.moments;
const isFinished = report.state !== "Unfinished";
const hasBase = moments.some((moment) => moment.when === "Base");

/** Languages, the one that was learned most first, and the inks that stand for them all over the page. */
const inks = (() => {
  const names = report.languages.map((language) => language.language);
  for (const { language } of [...report.datasets, ...report.evaluations.rows]) {
    if (language && !names.includes(language)) names.push(language);
  }
  const colours = names.length > 1 ? ["cinnabar", "indigo", "teal", "ochre", "plum"] : ["indigo"];
  return new Map(names.map((name, index) => [name, `var(--${colours[index] || "slate"})`]));
})();
const inkOf = (language) => inks.get(language) || "var(--slate)";

/** Datasets of a language are shades of its ink. */
const shades = (() => {
  const shade = new Map(), count = new Map();
  const trainedFirst = [...report.datasets].sort((left, right) => Number(right.tokens > 0) - Number(left.tokens > 0));
  for (const { name, language } of trainedFirst) {
    const index = count.get(language) || 0;
    count.set(language, index + 1);
    shade.set(name, `color-mix(in oklab, ${inkOf(language)} ${[100, 74, 54, 40, 87, 64, 47][index % 7]}%, var(--sheet))`);
  }
  return (name) => shade.get(name) || "var(--slate)";
})();

const languageName = (() => {
  let names = null;
  try { names = new Intl.DisplayNames(["en"], { type: "language" }); } catch { /* the tag itself will do */ }
  return (tag) => { try { return (names && tag && names.of(tag)) || tag || "no language"; } catch { return tag; } };
})();

const momentName = (moment) => ({
  Base: "Base model", JobStart: hasBase ? "Vocabulary extended" : "Before the first step", JobEnd: "End",
  StageEnd: moment.stage, Interval: `Step ${format.integer(moment.step)}`,
}[moment.when] || moment.when);

/** Datasets as they are listed everywhere: by language, then as the job names them. */
const datasetOrder = (() => {
  const languages = [...inks.keys()];
  const rank = ({ language }) => { const index = languages.indexOf(language); return index < 0 ? languages.length : index; };
  return [...report.datasets].sort((left, right) => rank(left) - rank(right)).map((dataset) => dataset.name);
})();
const inOrder = (list, nameOf) => [...list].sort((left, right) => datasetOrder.indexOf(nameOf(left)) - datasetOrder.indexOf(nameOf(right)));

const swatch = (colour) => h("i", { class: "swatch", colour });
const firstOf = (values) => values.find(isNumber);
const lastOf = (values) => values.findLast(isNumber);
/** Held-out text may get a little worse without being forgotten; the demo's own bound is 5 %. */
const verdict = (change) => !isNumber(change) ? "muted" : change < -0.005 ? "better" : change <= 0.05 ? "steady" : "worse";

function section(id, title, notes, ...body) {
  return h("section", { id }, h("div", { class: "margin" }, h("h2", {}, title), notes.map((note) => h("p", {}, note))), h("div", { class: "body" }, body));
}

function table(caption, heads, rows) {
  return h("div", { class: "scroll" }, h("table", {}, caption ? h("caption", {}, caption) : null,
    h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col", class: head.kind ?? null }, head.name || head)))),
    h("tbody", {}, rows)));
}

const row = (cells, kind) => h("tr", { class: kind }, cells.map((cell) => cell instanceof HTMLTableCellElement ? cell : h("td", {}, cell)));

/** What was, as a ghost, and what is now over it. */
function ghosted(before, after, most, colour) {
  const width = (value) => `width:${isNumber(value) ? Math.max(1, 100 * value / most).toFixed(1) : 0}%`;
  return h("span", { class: "ghosted", colour, "aria-hidden": "true" }, h("i", { style: width(before) }), h("b", { style: width(after) }));
}

// Title and headline

function title() {
  const model = summary.model || {};
  const state = report.state === "Unfinished" ? `Not finished: step ${format.integer(report.steps)}${report.plannedSteps ? ` of ${format.integer(report.plannedSteps)}` : ""}` : report.state;
  const line = [h("span", { class: `state ${report.state}` }, state),
    model.parameters ? h("span", {}, `${format.short(model.parameters)} parameters`) : null,
    summary.device ? h("span", {}, `${summary.precision} on ${summary.device}, ${summary.threads} thread${summary.threads === 1 ? "" : "s"}`) : null,
    h("span", {}, report.stages.map((stage) => stage.name).join(" → "))];
  return h("div", { class: "title" }, h("h1", {}, report.job), h("div", { class: "line" }, line), headline(), facts(),
    (summary.warnings || []).map((warning) => h("p", { class: "warning" }, warning)));
}

function headline() {
  const known = report.languages.filter((language) => isNumber(language.change)).slice(0, 4);
  if (!known.length) return null;
  return h("div", { class: "headline" }, known.map((language) => h("div", { colour: inkOf(language.language) },
    h("div", { class: "what" }, `${languageName(language.language)}, held out`),
    h("div", { class: "figure" }, format.change(language.change).replace(" %", ""), h("small", {}, "%")),
    h("div", { class: "detail" }, `${format.fixed(language.before)} → ${format.fixed(language.after)} `, h("span", { class: "muted" }, `bits per byte${isNumber(language.extended) ? `, ${format.fixed(language.extended)} once the vocabulary was extended` : ""}`)))));
}

function facts() {
  const fact = (name, value, more) => h("div", {}, h("dt", {}, name), h("dd", {}, value, more ? h("small", {}, ` ${more}`) : null));
  const total = report.steps || 1;
  return h("dl", { class: "facts" },
    fact("Tokens trained on", format.short(report.tokens), report.certificate ? `fill ${format.percent(report.certificate.total.fill)}` : null),
    fact("Time in steps", format.duration(report.seconds)),
    fact("Tokens per second", format.integer(report.tokensPerSecond)),
    fact("Steps", format.integer(report.steps)),
    fact("Clipped steps", format.percent(report.clippedSteps / total), format.integer(report.clippedSteps)),
    fact("Skipped steps", format.integer(report.skippedSteps)));
}

// Held-out text

class HeldOut {
  constructor() {
    this.relative = false;
    this.box = h("div", {});
    this.redraw = drawn(this.box, (width) => this.draw(width));
    this.element = h("div", { class: "sheet" },
      h("div", { class: "tools" }, choice("Scale", [[false, "Bits per byte"], [true, "Against the first"]], this.relative, (relative) => { this.relative = relative; this.redraw(); })),
      this.box);
  }

  draw(width) {
    const narrow = width < 620, right = narrow ? 96 : 148, left = 46, height = narrow ? 300 : 360, top = 12, bottom = height - 46;
    const svg = s("svg", { height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Bits per byte of held-out text at each moment of the job" });
    const view = (values) => this.relative ? values.map((value) => isNumber(value) ? value / firstOf(values) - 1 : null) : values;
    const lines = [
      ...report.evaluations.rows.map((each) => ({ kind: "thin", name: each.name, colour: inkOf(each.language), bits: each.bitsPerByte, values: view(each.bitsPerByte) })),
      ...report.languages.map((each) => ({ kind: "", name: languageName(each.language), colour: inkOf(each.language), bits: each.bitsPerByte, values: view(each.bitsPerByte) })),
    ];
    const all = lines.flatMap((line) => line.values).filter(isNumber), [low, high] = minmax(all);
    const log = !this.relative && high / low > 2.5;
    const scale = verticalScale(all, { log }, top, bottom, 6);
    if (log) svg.append(s("text", { x: width - right + 8, y: top - 1, "text-anchor": "end" }, "log scale"));
    if (log) scale.ticks = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12].filter((tick) => tick >= low / 1.03 && tick <= high * 1.03);
    const x = (index) => left + (moments.length === 1 ? 0.5 : index / (moments.length - 1)) * (width - left - right);
    for (const tick of scale.ticks) {
      const y = scale.place(tick);
      svg.append(s("line", { class: this.relative && tick === 0 ? "zero" : "grid", x1: left, x2: width - right + 8, y1: y, y2: y }),
        s("text", { x: left - 9, y: y + 4, "text-anchor": "end" }, this.relative ? format.change(tick, 0) : String(tick)));
    }
    const named = moments.map((moment, index) => ({ moment, index })).filter(({ moment }) => moment.when !== "Interval");
    named.forEach(({ moment, index }, place) => {
      const anchor = index === 0 && !narrow ? "start" : "middle";
      const words = momentName(moment).split(/(?<=[- ])/), lines = words.length > 1 && (narrow || width / named.length < 190)
        ? [words.slice(0, Math.ceil(words.length / 2)).join(""), words.slice(Math.ceil(words.length / 2)).join("")] : [words.join("")];
      svg.append(s("line", { class: "bucket", x1: x(index), x2: x(index), y1: top, y2: bottom + 4 }),
        s("text", { class: "name", x: anchor === "start" ? x(index) - 8 : x(index), y: bottom + 19, "text-anchor": anchor, "font-size": narrow ? 10 : 11.5 },
          lines.map((line, number) => s("tspan", { x: anchor === "start" ? x(index) - 8 : x(index), dy: number ? 13 : 0 }, line.trim()))));
      if (lines.length === 1 || !narrow) svg.append(s("text", { x: anchor === "start" ? x(index) - 8 : x(index), y: bottom + 19 + 14 * lines.length, "text-anchor": anchor }, `step ${format.integer(moment.step)}`));
    });
    for (const line of lines) {
      const places = line.values.map((value) => isNumber(value) ? scale.place(value) : null);
      svg.append(s("path", { class: `line ${line.kind}`, colour: line.colour, d: path(moments.map((_, index) => x(index)), places) }));
      places.forEach((y, index) => {
        if (!isNumber(y)) return;
        const dot = s("circle", { class: `dot ${line.kind}`, colour: line.colour, cx: x(index), cy: y, r: line.kind ? 3.2 : 5 });
        svg.append(tip(dot, `${line.name}\n${momentName(moments[index])}, step ${format.integer(moments[index].step)}\n${format.fixed(line.bits[index], 4)} bits per byte (${format.change(line.bits[index] / firstOf(line.bits) - 1)})`));
      });
    }
    this.label(svg, report.languages.map((language) => ({
      y: scale.place(lastOf(view(language.bitsPerByte))), colour: inkOf(language.language), name: languageName(language.language),
      text: `${format.fixed(language.after)}${isNumber(language.change) ? `, ${format.change(language.change)}` : ""}` })), x(moments.length - 1) + 14, bottom - 16);
    return svg;
  }

  /** Names at the lines' ends, moved apart where they would touch. */
  label(svg, labels, x, bottom) {
    labels.sort((left, right) => left.y - right.y);
    labels.forEach((label, index) => { if (index) label.y = Math.max(label.y, labels[index - 1].y + 34); });
    labels.reverse().forEach((label, index) => { label.y = Math.min(label.y, index ? labels[index - 1].y - 34 : bottom); });
    for (const label of labels) {
      svg.append(s("text", { x, y: label.y - 1, class: "name", style: `fill:${label.colour};font-size:13px` }, label.name), s("text", { x, y: label.y + 14 }, label.text));
    }
  }
}

function heldOutSection() {
  if (moments.length < 2) return null;
  return section("held-out", "Learned and kept", [
    "Bits the model needs for a byte of text that no job ever trains on. Lower is better, and the figure does not depend on the tokenizer.",
    hasBase ? "Base model: before its vocabulary was extended, with its own tokenizer." : "The first measurement is what the others are set against.",
    "Heavy lines: a language, its datasets weighted by their bytes."], new HeldOut().element);
}

// Buckets

function bucketSection() {
  const used = inOrder(report.datasets, (dataset) => dataset.name).filter(({ name }) => report.stages.some((stage) => stage.buckets.some((bucket) => bucket.shares.some((share) => share.dataset === name))));
  if (!used.length) return null;
  const most = Math.max(...report.stages.flatMap((stage) => stage.buckets.map((bucket) => bucket.documentTokens)));
  const body = h("div", { class: "sheet" });
  const light = (name) => {
    body.classList.toggle("dim", name !== null);
    body.querySelectorAll("[data-name]").forEach((element) => element.classList.toggle("lit", element.dataset.name === name));
  };
  const lit = (element, name) => {
    element.dataset.name = name;
    element.addEventListener("pointerenter", () => light(name));
    element.addEventListener("pointerleave", () => light(null));
    return element;
  };
  body.append(h("div", { class: "legend" }, used.map(({ name }) => lit(h("span", { class: "key" }, swatch(shades(name)), name), name))));
  for (const stage of report.stages) {
    body.append(h("h3", {}, stage.name, h("span", { class: "muted" }, ` · ${format.integer(stage.steps)} steps, ${format.short(stage.documentTokens)} tokens`)));
    for (const bucket of stage.buckets) body.append(bucketRow(bucket, most, lit));
  }
  return section("buckets", "Buckets", ["A stage is cut into buckets that come in order: bucket k holds the k-th part of every dataset of its mixture, shuffled.",
    "A bar is a bucket, as long as its tokens."], body);
}

function bucketRow(bucket, most, lit) {
  const shares = inOrder(bucket.shares, (share) => share.dataset);
  const total = bucket.documentTokens || 1;
  const mix = [...inks.keys()].map((language) => [language, shares.filter((share) => languageOf(share.dataset) === language).reduce((sum, share) => sum + share.tokens, 0) / total])
    .filter(([, part]) => part > 0).map(([language, part]) => `${language} ${Math.round(100 * part)} %`).join(" · ");
  const bar = h("div", { class: "stack", style: `width:${(100 * total / most).toFixed(2)}%` }, shares.map((share) =>
    lit(tip(h("i", { style: `flex-grow:${share.tokens}`, colour: shades(share.dataset) }), `${share.dataset}\n${format.integer(share.tokens)} tokens, ${format.percent(share.tokens / total)} of the bucket`), share.dataset)));
  return h("div", { class: "bucket-row" }, h("span", { class: "label" }, "Bucket ", h("b", {}, String(bucket.bucket + 1))), bar,
    tip(h("span", { class: "mix" }, mix), `${format.integer(bucket.documentTokens)} document tokens\n${format.integer(bucket.sequences)} sequences, fill ${format.percent(1 - bucket.padding / bucket.slots)}\nsteps ${format.integer(bucket.firstStep)} to ${format.integer(bucket.lastStep)}`));
}

const languageOf = (name) => report.datasets.find((dataset) => dataset.name === name)?.language ?? null;

// Datasets

function datasetSection() {
  if (!report.datasets.length && !report.evaluations.rows.length) return null;
  const rows = [], all = report.evaluations.rows;
  const most = Math.max(...all.flatMap((each) => each.bitsPerByte.filter(isNumber)), 0.001);
  const start = moments.findIndex((moment) => moment.when !== "Base");
  const last = moments.length - 1;
  const cells = (name, mark, bits, losses, figures, colour) => {
    const change = isNumber(firstOf(bits)) && bits.filter(isNumber).length > 1 ? lastOf(bits) / firstOf(bits) - 1 : null;
    return [h("td", {}, mark, name), format.fixed(firstOf(bits)),
      h("td", {}, format.fixed(lastOf(bits)), ghosted(firstOf(bits), lastOf(bits), most, colour)),
      h("td", { class: verdict(change) }, format.change(change)),
      start > -1 && isNumber(losses[start]) && last > start ? `${format.fixed(losses[start], 2)} → ${format.fixed(losses[last], 2)}` : "–",
      figures.tokens ? format.short(figures.tokens) : "–", figures.tokens ? format.fixed(figures.epochs, 2) : "–", trainingLoss(figures)];
  };
  for (const language of inks.keys()) {
    const members = report.datasets.filter((dataset) => dataset.language === language);
    const figures = { tokens: members.reduce((sum, member) => sum + member.tokens, 0), epochs: epochsOf(members), stages: stagesOf(members) };
    const together = report.languages.find((each) => each.language === language);
    rows.push(row(cells(languageName(language), swatch(inkOf(language)), together?.bitsPerByte ?? [], together?.loss ?? [], figures, inkOf(language)), "group"));
    for (const member of members) {
      const measured = all.find((each) => each.dataset === member.name) || { bitsPerByte: [], loss: [] };
      rows.push(row(cells(member.name, null, measured.bitsPerByte, measured.loss, member, inkOf(language)), "member"));
    }
  }
  for (const member of report.datasets.filter((dataset) => !dataset.language)) {
    const measured = all.find((each) => each.dataset === member.name) || { bitsPerByte: [], loss: [] };
    rows.push(row(cells(member.name, null, measured.bitsPerByte, measured.loss, member, "var(--slate)")));
  }
  const heads = ["Dataset", `Bits per byte, ${hasBase ? "base" : "start"}`, { name: "Bits per byte, now", kind: "barred" }, "Change", "Held-out loss, start → now", isFinished ? "Tokens" : "Tokens planned", isFinished ? "Epochs" : "Epochs planned", "Training loss by stage"];
  const shown = rows.some((each) => each.lastChild.textContent !== "–") ? heads : heads.slice(0, -1);
  if (shown !== heads) rows.forEach((each) => each.lastChild.remove());
  return section("datasets", "Datasets", [`What was trained on, and what became of the held-out part of each, against ${hasBase ? "the base model" : "the first measurement"}.`,
    `The pale bar is ${hasBase ? "the base" : "the first"}, the solid one the model as it is now.`,
    "Losses are in nats per token, and so are compared only where the tokenizer is the same: from step 0 on."],
    h("div", { class: "sheet" }, table(null, shown, rows)));
}

const trainingLoss = (figures) => {
  const known = (figures.stages || []).filter((stage) => isNumber(stage.loss));
  return known.length ? h("span", {}, known.map((stage, index) => tip(h("span", {}, `${index ? " → " : ""}${format.fixed(stage.loss, 2)}`), `${stage.stage}\n${format.integer(stage.tokens)} tokens`))) : "–";
};

/** The stages of several datasets together; the loss is that of all their target tokens. */
function stagesOf(members) {
  const names = [...new Set(members.flatMap((member) => (member.stages || []).map((stage) => stage.stage)))];
  return names.map((name) => {
    const parts = members.flatMap((member) => (member.stages || []).filter((stage) => stage.stage === name));
    const measured = parts.filter((part) => isNumber(part.loss));
    const targets = measured.reduce((sum, part) => sum + part.targets, 0);
    const loss = targets > 0 ? measured.reduce((sum, part) => sum + part.loss * part.targets, 0) / targets : null;
    return { stage: name, tokens: parts.reduce((sum, part) => sum + part.tokens, 0), loss, targets };
  });
}

/** Tokens trained on by tokens there are, over several datasets. */
function epochsOf(members) {
  const there = members.reduce((sum, member) => sum + (member.epochs > 0 ? member.tokens / member.epochs : 0), 0);
  return there > 0 ? members.reduce((sum, member) => sum + member.tokens, 0) / there : 0;
}

// New tokens

function newTokenSection() {
  const fresh = report.newTokens;
  if (!fresh || !fresh.count) return null;
  const classes = Object.entries(fresh.occurrences || {}).sort(([left], [right]) => parseInt(left, 10) - parseInt(right, 10));
  const most = Math.max(...classes.map(([, count]) => count), 1);
  const sheets = [h("div", { class: "sheet" }, h("h3", {}, "How often each was a target"),
    h("p", { class: "pair" }, format.integer(fresh.trained), h("small", {}, ` of ${format.integer(fresh.count)} trained, ${format.integer(fresh.neverSeen)} never seen`)),
    h("div", { class: "bars" }, classes.flatMap(([name, count]) => [h("span", {}, name === "0" ? "never" : `${name.replace("-", "–")} times`),
      h("span", { class: "bar", colour: name === "0" ? "var(--ghost)" : "var(--cinnabar)" }, h("i", { style: `width:${100 * count / most}%` })),
      h("span", { class: "end" }, `${format.integer(count)} · ${format.percent(count / fresh.count)}`)])))];
  if (fresh.lossJump) sheets.push(jump(fresh.lossJump));
  const stages = fresh.stages || [];
  const rows = stages.map((stage) => row([stage.stage || "step 0", format.fixed(stage.normOld), format.fixed(stage.normNew),
    format.fixed(stage.normNew / stage.normOld, 2), format.fixed(stage.lossOld, 2), format.fixed(stage.lossNew, 2)]));
  return section("new-tokens", "New tokens", ["The pieces that the extension appended to the vocabulary, and how they fare beside the old ones.",
    "Row norms are Euclidean, of the embedding; losses are of held-out text, by the id to be predicted."],
    h("div", { class: "columns" }, sheets),
    stages.length ? h("div", { class: "sheet", style: "margin-top:14px" }, table(null, ["After", "Row norm, old", "new", "new / old", "Loss of old ids", "of new ids"], rows)) : null);
}

/** What the new rows cost or gain before any step: all held-out text together, then a language at a time. */
function jump({ before, after }) {
  const known = report.languages.filter((language) => isNumber(language.extended));
  const high = Math.max(before, after, ...known.flatMap((language) => [language.before, language.extended]));
  const line = (name, from, to, colour) => [h("span", {}, name), ghosted(from, to, high, colour), h("span", { class: "end" }, `${format.fixed(from)} → ${format.fixed(to)}`)];
  return h("div", { class: "sheet" }, h("h3", {}, "The jump at step 0"),
    h("p", { class: "pair" }, format.change(after / before - 1), h("small", {}, " bits per byte of all held-out text")),
    h("div", { class: "bars" }, line("all", before, after, "var(--slate)"), known.flatMap((language) => line(languageName(language.language), language.before, language.extended, inkOf(language.language)))),
    h("p", { class: "note" }, "From the base model with its own vocabulary (pale) to the extended one before its first step (solid)."));
}

// Tokenizer

function tokenizerSection() {
  const list = Array.isArray(summary.tokenizer) ? summary.tokenizer : [];
  if (!list.length) return null;
  const languages = [...inks.keys()];
  const rank = (each) => { const index = languages.indexOf(each.language); return index < 0 ? languages.length : index; };
  const ordered = list.map((each, place) => ({ each, place })).sort((left, right) => rank(left.each) - rank(right.each) || left.place - right.place).map(({ each }) => each);
  const most = Math.max(...list.map((each) => each.tokensPerCharacter || 0), 0.001);
  const rows = ordered.map((each, index) => {
    const isFirst = index === 0 || ordered[index - 1].language !== each.language;
    const first = ordered.find((other) => other.language === each.language);
    return row([h("td", {}, isFirst ? [each.language ? swatch(inkOf(each.language)) : null, each.language ? languageName(each.language) : "All"].filter(Boolean) : ""),
      h("td", { class: "text" }, each.name), format.integer(each.vocabulary),
      h("td", {}, format.fixed(each.tokensPerCharacter), ghosted(first.tokensPerCharacter, each.tokensPerCharacter, most, inkOf(each.language))),
      isFirst ? "" : format.change(each.tokensPerCharacter / first.tokensPerCharacter - 1),
      format.fixed(each.averageLength, 1), format.fixed(each.bytesPerToken, 2), format.integer(each.unused)], isFirst ? "group-start" : "follow");
  });
  return section("tokenizer", "Tokenizer", ["Fewer tokens for the same text: more text in a sequence, and in a second.", "Measured on the job's datasets, a language at a time. Unused: pieces that none of that text needs."],
    h("div", { class: "sheet" }, table(null, ["Text", { name: "Tokenizer", kind: "text" }, "Vocabulary", { name: "Tokens per character", kind: "barred" }, "Change", "Tokens per document", "Bytes per token", "Unused pieces"], rows)));
}

// Packing certificate

function certificateSection() {
  const certificate = report.certificate;
  if (!certificate) return null;
  const { datasets, total } = certificate;
  const sum = (key) => ({
    documents: datasets.reduce((all, each) => all + each[key].documents, 0), tokens: datasets.reduce((all, each) => all + each[key].tokens, 0),
  });
  const all = { read: sum("read"), heldOut: sum("heldOut"), used: sum("used"), unused: sum("unused"), dropped: sum("dropped"), trained: sum("trained"), split: total.split, repeated: {} };
  const adds = (each) => ["documents", "tokens"].every((unit) => each.read[unit] === each.heldOut[unit] + each.used[unit] + each.unused[unit] + each.dropped[unit]);
  const buckets = report.stages.flatMap((stage) => stage.buckets.map((bucket) => ({ stage: stage.name, ...bucket })));
  const isSound = [...datasets, all].every(adds) && all.trained.tokens === total.documentTokens && all.trained.documents === total.documents
    && total.documentTokens === total.documents + total.promptTokens + total.targetTokens && total.slots === total.documentTokens - total.documents + total.padding
    && ["sequences", "slots", "padding", "documentTokens", "targetTokens"].every((key) => buckets.reduce((found, bucket) => found + bucket[key], 0) === total[key]);
  const term = (value, name) => h("span", {}, h("b", {}, format.integer(value)), h("small", {}, name));
  const op = (text) => h("span", { class: "op" }, text);
  const most = (each) => { const times = Object.keys(each.repeated).map(Number); return times.length ? `${Math.max(...times)}×` : "–"; };
  const cells = (each, name) => [name, format.integer(each.read.documents), format.integer(each.read.tokens), format.integer(each.heldOut.tokens), format.integer(each.used.tokens),
    format.integer(each.unused.tokens), format.integer(each.dropped.tokens), format.integer(each.trained.tokens), most(each), format.integer(each.split)];
  const rows = inOrder(datasets, (each) => each.dataset).map((each) => {
    const times = Object.entries(each.repeated).map(([time, documents]) => `${time}×: ${format.integer(documents)} documents`).join("\n");
    const line = row(cells(each, h("td", {}, swatch(shades(each.dataset)), each.dataset)));
    if (times) tip(line.children[8], times);
    return line;
  });
  all.repeated = Object.assign({}, ...datasets.map((each) => each.repeated));
  const bucketRows = buckets.map((bucket) => row([`${bucket.stage} ${bucket.bucket + 1}`, format.integer(bucket.sequences), format.integer(bucket.documents), format.integer(bucket.documentTokens), format.integer(bucket.promptTokens),
    format.integer(bucket.targetTokens), format.integer(bucket.slots), format.integer(bucket.padding), format.percent(1 - bucket.padding / bucket.slots, 2), format.integer(bucket.split)]));
  bucketRows.push(row(["All", ...["sequences", "documents", "documentTokens", "promptTokens", "targetTokens", "slots", "padding"].map((key) => format.integer(total[key])), format.percent(total.fill, 2), format.integer(total.split)], "sum"));
  return section("certificate", "Packing certificate", ["Where every token that was read went. Nothing is dropped, and with best-fit packing a document is split only where it is longer than a sequence.",
    "A document of n tokens takes n − 1 slots: its first token is never predicted, its last never read."],
    h("div", { class: "sheet" },
      h("div", { class: "tally" }, term(all.read.tokens, "tokens read"), op("="), term(all.heldOut.tokens, "held out"), op("+"), term(all.used.tokens, "used"), op("+"), term(all.unused.tokens, "unused"), op("+"), term(all.dropped.tokens, "dropped"),
        h("span", { class: `mark ${isSound ? "yes" : "no"}` }, isSound ? "✓ adds up" : "✗ does not add up")),
      h("div", { class: "tally" }, term(total.slots, `slots in ${format.integer(total.sequences)} sequences`), op("="), term(total.documentTokens, "document tokens"), op(MINUS), term(total.documents, "one a document"), op("+"), term(total.padding, "padding"),
        h("span", { class: "muted" }, `fill ${format.percent(total.fill, 2)}`)),
      table(null, ["Dataset", "Documents", "Tokens read", "held out", "used", "unused", "dropped", "Trained on, repeats counted", "Most often", "Documents split"], [...rows, row(cells(all, "All"), "sum")]),
      h("details", {}, h("summary", {}, "Bucket by bucket"), table(null, ["Bucket", "Sequences", "Documents", "Document tokens", "of prompts", "Target tokens", "Slots", "Padding", "Fill", "Documents split"], bucketRows))));
}

// Time

function timeSection() {
  const goodput = summary.goodput;
  if (!goodput) return null;
  const seconds = (value) => `${value.toFixed(1)} s (${(100 * value / goodput.wallSeconds).toFixed(1)} %)`;
  const mebibytes = (bytes) => bytes == null ? null : `${(bytes / 1048576).toFixed(0)} MiB`;
  const rest = goodput.wallSeconds - goodput.keptSeconds - goodput.lostSeconds - goodput.checkpointSeconds;
  const entries = [["Steps that were kept", seconds(goodput.keptSeconds)], ["Steps taken again", `${seconds(goodput.lostSeconds)}, ${goodput.lostSteps} steps`],
    ["Waiting for checkpoints", seconds(goodput.checkpointSeconds)], ["Preparing, measuring, exporting", seconds(rest)],
    ["In all", `${goodput.wallSeconds.toFixed(1)} s, ${goodput.attempts} ${goodput.attempts === 1 ? "attempt" : "attempts"}`],
    ["Memory", mebibytes(summary.residentBytes)], ["GPU memory", mebibytes(summary.deviceBytes)]].filter(([, value]) => value !== null);
  return section("time", "Where the time went", [`Goodput, the share of time in steps that were kept, is ${(100 * goodput.share).toFixed(1)} %.`],
    h("div", { class: "sheet" }, h("dl", { class: "digests" }, entries.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))),
    stepTime(report.stepTime));
}

/** What the steps' own time went to. */
function stepTime(time) {
  if (!time) return null;
  const parts = [["Data", time.dataSeconds], ["Forward", time.forwardSeconds], ["Head, loss, backward", time.backwardSeconds], ["Norm, clipping, optimizer", time.optimizerSeconds], ["Rest", time.otherSeconds]];
  const all = parts.reduce((sum, [, seconds]) => sum + seconds, 0) || 1;
  const line = ([name, seconds]) => [h("span", {}, name), h("span", { class: "bar" }, h("i", { style: `width:${(100 * seconds / all).toFixed(2)}%` })), h("span", { class: "end" }, format.percent(seconds / all))];
  const used = isNumber(time.mfu) ? `${format.percent(time.mfu)} of the device's measured rate of matrix products (MFU), at ${format.short(time.flopsPerToken)} operations a token.` : null;
  return h("div", { class: "sheet", style: "margin-top:14px" }, h("h3", {}, "Within a step"), h("div", { class: "bars" }, parts.flatMap(line)), used ? h("p", { class: "note" }, used) : null);
}

// Provenance

function provenanceSection() {
  const print = summary.fingerprint || {};
  const entries = [["Model", summary.model?.path], ["Model digest", summary.model?.digest], ["Job digest", summary.digest], ["Plan digest", summary.planDigest || report.planDigest],
    ["Precision", print.precision], ["Device", print.device], ["Threads", print.threads], ["Instruction set", print.instructionSet], ["libtorch", print.libtorch]]
    .filter(([, value]) => value !== undefined && value !== null && value !== "");
  if (!entries.length) return null;
  return section("provenance", "Provenance", ["The same job on the same fingerprint and as many ranks gives the same bits."],
    h("div", { class: "sheet" }, h("dl", { class: "digests" }, entries.flatMap(([name, value]) => [h("dt", {}, name), h("dd", { class: "mono" }, String(value))]))));
}

// The page

(() => {
  const course = report.curve.step.length ? section("course", "Course of training", [
    "The loss is the sum over a step's target tokens by their number. Thin lines are buckets, full ones stages; a red tick is a step that was skipped as a spike.",
    report.curve.stepsPerPoint > 1 ? `A point is the mean of ${report.curve.stepsPerPoint} steps.` : "The pale line is every step, the strong one its running mean."],
    new Course(report).element) : section("course", "Course of training", [], h("p", { class: "empty" }, "No step was taken yet."));
  const sections = [heldOutSection(), course, bucketSection(), datasetSection(), newTokenSection(), tokenizerSection(), certificateSection(), timeSection(), provenanceSection()].filter(Boolean);
  document.getElementById("report").append(title(), ...sections);
  document.getElementById("contents").append(...sections.map((each) => h("a", { href: `#${each.id}` }, each.querySelector("h2").textContent)));
  document.getElementById("colophon").append("Written by palimpsest report from the files of the run. It needs no network.");
  const theme = document.getElementById("theme"), order = ["Auto", "Light", "Dark"];
  theme.addEventListener("click", () => {
    const next = order[(order.indexOf(theme.textContent) + 1) % order.length];
    theme.textContent = next;
    if (next === "Auto") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = next.toLowerCase();
  });
})();
