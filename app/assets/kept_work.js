// A piece of work on a page: kept in the browser, with a history; and asking the server about it.
"use strict";

class KeptWork {
  // facts: what the page says of the run; told: called with "changed" when the work is another, with "saved" when all of
  // it is on disk, with "unkept" if it could not be kept.
  constructor(facts, told, store) {
    Object.assign(this, { facts, told, store, saves: 0, saved: 0, turn: 0 });
    this.who = Math.random().toString(36).slice(2) + Math.random().toString(36).slice(2);
  }

  // Of each class: how many steps can be undone, what fields of the work hold the page's fields, what a step restores,
  // and what the work is before anybody has done anything.
  static HISTORY = 40;
  static FIELDS = "fields";
  static STEP = ["edits"];
  static empty() { return { past: [], future: [], fields: {} }; }

  async load() {
    const kept = await this.store.work(this.facts.id).catch(() => null);
    const { FIELDS } = this.constructor, empty = this.constructor.empty(this.facts);
    this.now = kept ? { ...empty, ...kept, [FIELDS]: { ...empty[FIELDS], ...kept[FIELDS] } } : empty;
  }

  // Keep what there is. `saves` counts what has been asked for, `saved` says up to which of them is on disk.
  async save() {
    const turn = (this.saves += 1);
    try {
      await this.store.keep(this.facts.id, this.now);
    } catch {
      return this.told("unkept");  // a private window, or no room
    }
    this.saved = Math.max(this.saved, turn);
    if (this.saved === this.saves) this.told("saved");
    return undefined;
  }

  snapshot() {
    return structuredClone(Object.fromEntries(this.constructor.STEP.map((name) => [name, this.now[name]])));
  }

  // Change the work, as a step that can be undone. before: how it was, if the change has begun already.
  change(act, before = this.snapshot()) {
    act(this.now);
    this.now.past = [...this.now.past, before].slice(-this.constructor.HISTORY);
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

  // Ask the server. Throws an Error with one line.
  async fetch(path, options = {}) {
    let response;
    try {
      response = await fetch(`${this.facts.address}/${path}`, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The dashboard does not answer.");
    }
    if (response.status === 413) throw new Error("This is larger than the dashboard takes.");
    if (response.status >= 400 && !this.expects(response.status)) {
      const said = await response.json().catch(() => ({}));
      throw new Error(said.error || `The dashboard answers ${response.status}.`);
    }
    return response;
  }

  // Whether an answer of 400 and more is no error.
  expects() { return false; }

  async json(path, options) {
    const response = await this.fetch(path, options);
    return response.status === 204 ? null : response.json();
  }

  post(path, body, signal) { return this.json(path, { method: "POST", body, signal }); }
}
