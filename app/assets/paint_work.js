// A piece of work on the Paint page: the image, the brush, the edits and their history; and asking the server.
//
// An edit is { id, on, kind, layer, units, values, strength, mask, file, name }, as app/paint_edits.py has it, but that
// `mask` names one of `masks`, which holds the PNGs: so a history of a hundred strokes holds each of them once.
"use strict";

const PAINT_HISTORY = 100;  // steps that can be undone
const PAINT_ANSWERS = 40;  // images that are kept, so that undo needs no drawing

class PaintWork {
  // facts: what the page says of the run; told: called with "changed" when edits are others, with "unkept" if they
  // could not be kept.
  constructor(facts, told) {
    Object.assign(this, { facts, told, saves: 0, saved: 0, turn: 0, asking: null, answers: new Map() });
    this.who = Math.random().toString(36).slice(2) + Math.random().toString(36).slice(2);
  }

  static empty(facts) {
    const concept = facts.concepts.length ? facts.concepts[0].name : "";
    return {
      start: { seed: facts.sheet.length ? facts.sheet[0].seed : 0 }, latents: [], edits: [], current: null, masks: {}, past: [], future: [],
      tool: { kind: "erase", concept, layer: "", count: "", units: "", put: "high", strength: 1, width: 12, brush: null },
    };
  }

  async load() {
    const kept = await paintStore.work(this.facts.id).catch(() => null), empty = PaintWork.empty(this.facts);
    this.now = kept ? { ...empty, ...kept, tool: { ...empty.tool, ...kept.tool } } : empty;
  }

  // Keep what there is. `saves` counts what has been asked for, `saved` says up to which of them is on disk.
  async save() {
    const { now } = this, turn = (this.saves += 1);
    const steps = [...now.past, ...now.future, now];
    const used = new Set(steps.flatMap((step) => step.edits.map((edit) => edit.mask)));
    now.masks = Object.fromEntries(Object.entries(now.masks).filter(([id]) => used.has(id)));
    try {
      await paintStore.keep(this.facts.id, now);
    } catch {
      return this.told("unkept");  // a private window, or no room
    }
    this.saved = Math.max(this.saved, turn);
    return undefined;
  }

  snapshot() {
    return structuredClone({ edits: this.now.edits, current: this.now.current });
  }

  // Change the edits, as a step that can be undone. before: how they were, if it has begun already.
  change(act, before = this.snapshot()) {
    act(this.now);
    this.now.past = [...this.now.past, before].slice(-PAINT_HISTORY);
    this.now.future = [];
    this.told("changed");
    return this.save();
  }

  undo() { return this.step("past", "future"); }
  redo() { return this.step("future", "past"); }

  step(from, to) {
    const { now } = this;
    if (!now[from].length) return undefined;
    const other = now[from].at(-1);
    now[to] = [...now[to], this.snapshot()];
    now[from] = now[from].slice(0, -1);
    Object.assign(now, structuredClone(other));
    this.told("changed");
    return this.save();
  }

  edit(id = this.now.current) { return this.now.edits.find((edit) => edit.id === id); }

  // -- masks and edits ---------------------------------------------------------------------------------------------------

  // Take a PNG in; returns its name.
  mask(data) {
    const known = Object.entries(this.now.masks).find(([, kept]) => kept === data);
    const id = known ? known[0] : crypto.randomUUID ? crypto.randomUUID() : Math.random().toString(36).slice(2);
    this.now.masks[id] = data;
    return id;
  }

  // The edit that the brush makes, with a mask or everywhere (null); null if the brush is not known yet.
  made(mask) {
    const { tool } = this.now, { brush } = tool;
    if (!brush) return null;
    const draws = tool.kind === "draw";
    return {
      id: Math.random().toString(36).slice(2), on: true, kind: draws ? "draw" : "erase", layer: brush.layer, units: brush.units,
      values: draws ? brush.values[tool.put] || brush.values.high : null, strength: tool.strength, mask, file: null, name: brush.name,
    };
  }

  // Whether another stroke of the brush belongs to the current edit.
  fits() {
    const edit = this.edit(), made = edit && this.made(null);
    if (!made || edit.mask === null) return false;
    const told = (one) => JSON.stringify([one.kind, one.layer, one.units, one.values, one.strength]);
    return told(edit) === told(made);
  }

  wire() {
    return this.now.edits.filter((edit) => edit.on).map(({ kind, layer, units, values, strength, mask, file }) => (
      { kind, layer, units, values, strength, file, mask: mask === null ? null : this.now.masks[mask] }));
  }

  start() {
    const { start, latents } = this.now;
    return "w" in start && latents[start.w] ? { w: latents[start.w] } : { seed: start.seed ?? 0 };
  }

  // -- asking ------------------------------------------------------------------------------------------------------------

  // Ask the server. Throws an Error with one line.
  async fetch(path, content, signal) {
    const options = content === undefined ? { signal } : { method: "POST", body: content, signal };
    let response;
    try {
      response = await fetch(`${this.facts.address}/${path}`, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The dashboard does not answer.");
    }
    if (response.status === 413) throw new Error("This is larger than the dashboard takes.");
    if (response.status >= 400) {
      const said = await response.json().catch(() => ({}));
      throw new Error(said.error || `The dashboard answers ${response.status}.`);
    }
    return response;
  }

  async json(path, content, signal) {
    const response = await this.fetch(path, content, signal);
    return response.status === 204 ? null : response.json();
  }

  question(rest = {}) {
    return JSON.stringify({ ...this.start(), edits: this.wire(), layer: (this.now.tool.brush || {}).layer, ...rest });
  }

  // What the image looks like before and after; null if another question has come meanwhile.
  async shown() {
    const turn = (this.turn += 1), key = JSON.stringify([this.start(), this.wire()]);
    if (this.asking) this.asking.abort();
    this.asking = null;
    if (this.answers.has(key)) return this.answers.get(key);
    const asking = (this.asking = new AbortController());
    try {
      const answer = await this.json("shown", this.question({ who: this.who, turn }), asking.signal);
      if (!answer || turn !== this.turn) return null;
      this.answers.set(key, answer);
      if (this.answers.size > PAINT_ANSWERS) this.answers.delete(this.answers.keys().next().value);
      return answer;
    } catch (error) {
      if (error.name === "AbortError" || turn !== this.turn) return null;
      throw error;
    }
  }

  // Have what a pass holds at the brush's layer kept, so that the first stroke is as quick as the next.
  warm() {
    if (this.wire().length) return;
    this.json("shown", this.question({ rows: [] })).catch(() => {});
  }

  // The units of the brush and their constants. byUnits: as they were typed, else the best ones of the concept.
  async brush(byUnits) {
    const { tool } = this.now, query = new URLSearchParams({ layer: tool.layer });
    if (tool.concept) query.set("concept", tool.concept);
    if (byUnits) query.set("units", tool.units);
    else if (tool.count) query.set("count", tool.count);
    return this.json(`brush?${query}`);
  }

  // A file of edits, or a picture; saved by the browser.
  async saveAs(path, content) {
    const response = await this.fetch(path, content);
    const named = /filename="?([^";]+)"?/.exec(response.headers.get("Content-Disposition") || "");
    ganatomy.save(await response.blob(), named ? named[1] : "painted");
  }
}
