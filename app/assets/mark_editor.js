// Where in an image something is: painted on it with a brush or as a box, one of several images at a time. Used where
// people mark what is broken, and where they draw a concept of their own. Masks are PNG of at most 256 pixels a side.
"use strict";

class MarkEditor {
  // root: an empty element with data-images, the address of images by seed. asks: what is to be marked, in a sentence.
  // changed: called with a seed and its mask, null for none.
  constructor(root, asks, changed) {
    Object.assign(this, { root, changed, seed: null, seeds: [], masks: {}, loading: false, turn: 0, before: null });
    this.known = ""; // the mask as it was loaded, or came back from where it is kept
    this.sent = []; // strokes that have not come back yet
    const make = (kind, more, children = []) => {
      const made = Object.assign(document.createElement(kind), more);
      made.append(...children);
      return made;
    };
    const label = (made, text) => { made.setAttribute("aria-label", text); return made; };
    this.canvas = label(make("canvas", { tabIndex: 0 }), `${asks} Arrows move, Space paints.`);
    this.painter = new MaskPainter(this.canvas, () => this.painted());
    this.line = make("span", { className: "num" });
    this.tools = ["brush", "box", "erase"].map((tool) => make("button", { className: "act", textContent: tool, onclick: () => this.take(tool) }));
    const width = label(make("input", { type: "range", min: 2, max: 80, value: 24, oninput: () => { this.painter.width = Number(width.value); } }), "width of the brush");
    this.painter.width = 24;
    root.replaceChildren(
      this.canvas,
      make("div", {}, [
        make("p", { className: "note", textContent: asks }),
        make("div", { className: "level" }, [
          label(make("button", { className: "step", textContent: "‹", onclick: () => this.step(-1) }), "the image before"),
          label(make("button", { className: "step", textContent: "›", onclick: () => this.step(1) }), "the next image"),
          this.line]),
        make("div", { className: "level" }, [make("div", { className: "segments" }, this.tools), width,
          make("button", { className: "act", textContent: "clear", onclick: () => this.painter.clear() })]),
      ]),
    );
    this.take("brush");
  }

  // Which images there are to mark, and their masks as they are now. `wanted` is shown if it is among them. A mask that
  // is none of this editor's own (of a file, or of another tab) is shown: else the next stroke would undo it.
  told(seeds, masks, wanted) {
    Object.assign(this, { seeds, masks });
    this.root.hidden = !seeds.length;
    if (!seeds.length) { this.seed = null; return; }
    const next = [wanted, this.seed, this.before].find((seed) => seeds.includes(seed)) ?? seeds[0];
    if (next !== this.seed || this.others()) this.show(next);
    else this.says();
  }

  // Whether the mask of the image that is shown was changed by somebody else.
  others() {
    const now = this.masks[this.seed] || "", own = this.sent.indexOf(now);
    if (own >= 0) { this.sent.splice(0, own + 1); this.known = now; }
    return now !== this.known;
  }

  take(tool) {
    this.painter.tool = tool;
    this.tools.forEach((button) => button.setAttribute("aria-pressed", String(button.textContent === tool)));
  }

  step(by) {
    const at = this.seeds.indexOf(this.seed);
    this.show(this.seeds[(at + by + this.seeds.length) % this.seeds.length]);
  }

  async show(seed) {
    if (seed !== this.seed) this.before = this.seed;
    const image = new Image(), mask = this.masks[seed], turn = (this.turn += 1);
    Object.assign(this, { seed, loading: true, known: mask || "", sent: [] });
    delete this.root.dataset.ready; // until then no stroke counts
    this.says();
    image.src = this.root.dataset.images.replace(/\/?$/, `/${seed}`);
    try {
      await image.decode();
    } catch {
      if (this.turn === turn) this.line.textContent = `The image of seed ${seed} cannot be shown now; choose another, and come back.`;
      return;
    }
    if (this.turn !== turn) return;
    const small = document.createElement("canvas");
    small.width = small.height = Math.min(MarkEditor.SIDE, image.width);
    small.getContext("2d").drawImage(image, 0, 0, small.width, small.width);
    this.painter.show(small);
    this.painter.clear();
    if (mask) await this.painter.load(mask);
    if (this.turn !== turn) return;
    this.loading = false;
    this.root.dataset.ready = seed;
  }

  says() {
    const marked = this.seeds.filter((seed) => this.masks[seed]).length;
    this.line.textContent = `seed ${this.seed}, ${this.masks[this.seed] ? "marked" : "not marked"}; ${marked} of ${this.seeds.length} are marked`;
  }

  painted() {
    if (this.loading || this.seed === null) return;
    const mask = this.painter.data();
    if (mask !== (this.sent.at(-1) ?? this.known)) this.sent.push(mask); // one that changes nothing may not come back
    this.changed(this.seed, mask || null);
  }
}

MarkEditor.SIDE = 256;
