// A piece of work on the Paint page: the image, the brush, the edits and their history; and asking the server.
//
// An edit is { id, on, kind, layer, units, values, strength, mask, file, name }, as app/paint_edits.py has it, but that
// `mask` names one of `masks`, which holds the PNGs: so a history of a hundred strokes holds each of them once.
"use strict";

const PAINT_ANSWERS = 40;  // images that are kept, so that undo needs no drawing
const paintStore = new KeptStore("ganatomy-paint");

class PaintWork extends KeptWork {
  constructor(facts, told) {
    super(facts, told, paintStore);
    Object.assign(this, { asking: null, answers: new Map() });
  }

  static HISTORY = 100;
  static FIELDS = "tool";
  static STEP = ["edits", "current"];

  static empty(facts) {
    const concept = facts.concepts.length ? facts.concepts[0].name : "";
    return {
      start: { seed: facts.sheet.length ? facts.sheet[0].seed : 0 }, latents: [], edits: [], current: null, masks: {}, past: [], future: [],
      tool: { kind: "erase", concept, layer: "", count: "", units: "", put: "high", strength: 1, width: 12, brush: null },
    };
  }

  // Keep what there is, and of the masks those that an edit has or had.
  save() {
    const { now } = this, steps = [...now.past, ...now.future, now];
    const used = new Set(steps.flatMap((step) => step.edits.map((edit) => edit.mask)));
    now.masks = Object.fromEntries(Object.entries(now.masks).filter(([id]) => used.has(id)));
    return super.save();
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
      const answer = await this.post("shown", this.question({ who: this.who, turn }), asking.signal);
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
    this.post("shown", this.question({ rows: [] })).catch(() => {});
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
    const response = await this.fetch(path, content === undefined ? {} : { method: "POST", body: content });
    const named = /filename="?([^";]+)"?/.exec(response.headers.get("Content-Disposition") || "");
    ganatomy.save(await response.blob(), named ? named[1] : "painted");
  }
}
