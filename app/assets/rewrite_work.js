// A piece of work on the Rewrite page: the request, the edits, what was found; its history; and asking the server.
"use strict";

const rewriteStore = new KeptStore("ganatomy-rewrite", ["work", "files"]);

class RewriteWork extends KeptWork {
  constructor(facts, told) {
    super(facts, told, rewriteStore);
    this.images = new Map();
  }

  static STEP = ["request", "edits"];

  static empty(facts) {
    return {
      request: { name: "", goal: facts.goals[0], copy: null, paste: [], context: [] },
      edits: [], past: [], future: [], jobs: {}, abouts: {}, match: null, judged: null, exported: null,
      fields: {
        seed: "0", layer: facts.layers[0], method: facts.methods[0], rank: "1", memory: "256", concept: "",
        listed: "0:20", look: facts.look, seeds: facts.seeds, judge: facts.judge, source: "", target: "",
      },
    };
  }

  // -- edits as addresses name them --------------------------------------------------------------------------------------

  stack(draft = true) {
    const on = this.now.edits.filter((edit) => edit.on && (draft || !edit.draft));
    return on.map((edit) => `${edit.key}~${edit.strength}`).join(",");
  }

  // What a look at matches is about, and a judgement: where these change, what was found is of before.
  about(what) {
    const { request, fields } = this.now;
    const meant = request.context.length ? request.context : request.paste;
    return what === "match" ? JSON.stringify([meant, fields.layer, fields.rank, fields.method, this.stack(false)]) : this.stack();
  }

  // The request in the form of its file. looking: only the context matters, so that there need be nothing to copy yet.
  asFile(looking = false) {
    const { name, goal, copy, paste, context } = this.now.request;
    const plain = { format: "ganatomy.request", version: 1, name, resolution: this.facts.resolution, sampling: this.facts.sampling };
    if (looking) {
      const meant = context.length ? context : paste;
      if (!meant.length) throw new Error("Say first which places are meant: paste somewhere, or add to the context.");
      const first = meant[0].seed ?? meant[0].seeds[0];
      return { ...plain, goal: "erase", paste: [{ seed: first }], context: meant };
    }
    const whole = { ...plain, goal, paste };
    if (copy && goal !== "erase") whole.copy = copy;
    if (context.length) whole.context = context;
    return whole;
  }

  // -- asking ------------------------------------------------------------------------------------------------------------

  // Ask the server; edits that it has forgotten (410) are brought again, once. Throws an Error with one line.
  async fetch(path, options = {}, again = true) {
    const response = await super.fetch(path, options);
    if (response.status !== 410) return response;
    if (!again) throw new Error("The dashboard has forgotten an edit again.");
    for (const key of (await response.json()).missing) {
      const data = await rewriteStore.file(key);
      if (!data) throw new Error("An edit's file is no longer in this browser; remove the edit.");
      await this.fetch("edits", { method: "POST", body: data }, false);
    }
    return this.fetch(path, options, false);
  }

  expects(status) { return status === 410; }

  // The image of a seed with the edits that are kept and on, decoded; the last few are kept.
  image(seed) {
    const path = `image/${seed}?edits=${this.stack(false)}`;
    if (!this.images.has(path)) {
      const made = this.fetch(path).then((response) => response.blob()).then(createImageBitmap);
      made.catch(() => this.images.delete(path));
      this.images.set(path, made);
      if (this.images.size > 80) this.images.delete(this.images.keys().next().value);
    }
    return this.images.get(path);
  }

  async begin(what) {
    const { token } = await this.post(`jobs/${what}`, JSON.stringify(this.question(what)));
    this.now.abouts = { ...this.now.abouts, [what]: this.about(what) };
    this.now.jobs = { ...this.now.jobs, [what]: token };
    await this.save();
    return token;
  }

  ended(what) {
    const { [what]: _gone, ...others } = this.now.jobs;
    this.now.jobs = others;
  }

  // A recipe's file becomes an edit at the end of the list.
  async add(data, fields) {
    const { key, summary } = await this.post("edits", data);
    await rewriteStore.keepFile(key, data);
    const edit = { id: crypto.randomUUID(), key, strength: 1, on: true, draft: false, warnings: [], ...fields, summary };
    await this.change((now) => { now.edits = [...now.edits.filter((one) => !(edit.draft && one.draft)), edit]; });
  }

  question(what) {
    const { fields } = this.now, number = (text) => (/^\d{1,6}$/.test(text.trim()) ? Number(text) : text);
    const plain = { layer: fields.layer, method: fields.method, rank: number(fields.rank), memory: number(fields.memory) };
    if (what === "match") return { ...plain, request: this.asFile(true), seeds: fields.look, edits: this.stack(false) };
    if (what === "solve") return { ...plain, request: this.asFile(), edits: this.stack(false) };
    const stack = this.stack();
    if (!stack) throw new Error("No edit is switched on.");
    return { edits: stack, seeds: fields.judge, source: fields.source, target: fields.target };
  }
}
