// Where a broken image is broken: painted on it with a brush or as a box. Regions go into the visitor's work, by seed, as
// PNG of at most 256 pixels a side.
"use strict";

const artifactWhere = {
  SIDE: 256,
  root: null,
  seed: null,  // of the image that is shown
  wanted: null,  // of one that was just tagged
  tags: {},
  regions: {},
  loading: false,

  // The tags or regions have changed, here or elsewhere.
  told(tags, regions) {
    Object.assign(this, { tags, regions });
    const root = document.getElementById("artifacts-where");
    if (!root) return;
    if (root !== this.root) this.build(root);
    const broken = this.broken();
    root.hidden = !broken.length;
    if (!broken.length) { this.seed = null; return; }
    const wanted = broken.includes(this.wanted) ? this.wanted : broken.includes(this.seed) ? this.seed : broken[0];
    this.wanted = null;
    if (wanted !== this.seed) this.show(wanted);
    else this.says();
  },

  broken() { return Object.keys(this.tags).filter((seed) => this.tags[seed] === "broken").map(Number); },

  build(root) {
    Object.assign(this, { root, seed: null });
    const make = (kind, more, children = []) => {
      const made = Object.assign(document.createElement(kind), more);
      made.append(...children);
      return made;
    };
    const label = (made, text) => { made.setAttribute("aria-label", text); return made; };
    this.canvas = label(make("canvas", { tabIndex: 0, id: "artifacts-canvas" }), "where it is broken: arrows move, space paints");
    this.painter = new MaskPainter(this.canvas, () => this.changed());
    this.line = make("span", { className: "num" });
    this.tools = ["brush", "box", "erase"].map((tool) => make("button", { className: "act", textContent: tool, onclick: () => this.take(tool) }));
    const width = label(make("input", { type: "range", min: 2, max: 80, value: 24, oninput: () => { this.painter.width = Number(width.value); } }), "width of the brush");
    this.painter.width = 24;
    root.replaceChildren(
      this.canvas,
      make("div", {}, [
        make("p", { className: "note", textContent: "Where is it broken? For the ranking “defect”, at least three images." }),
        make("div", { className: "level" }, [
          label(make("button", { className: "step", textContent: "‹", onclick: () => this.step(-1) }), "the broken image before"),
          label(make("button", { className: "step", textContent: "›", onclick: () => this.step(1) }), "the next broken image"),
          this.line]),
        make("div", { className: "level" }, [make("div", { className: "segments" }, this.tools), width,
          make("button", { className: "act", textContent: "clear", onclick: () => this.painter.clear() })]),
      ]),
    );
    this.take("brush");
  },

  take(tool) {
    this.painter.tool = tool;
    this.tools.forEach((button) => button.setAttribute("aria-pressed", String(button.textContent === tool)));
  },

  step(by) {
    const broken = this.broken(), at = broken.indexOf(this.seed);
    this.show(broken[(at + by + broken.length) % broken.length]);
  },

  async show(seed) {
    this.seed = seed;
    this.loading = true;
    this.says();
    const image = new Image(), mask = this.regions[seed];
    image.src = this.root.dataset.images.replace(/\/?$/, `/${seed}`);
    await image.decode();
    if (this.seed !== seed) return;
    const small = document.createElement("canvas");
    small.width = small.height = Math.min(this.SIDE, image.width);
    small.getContext("2d").drawImage(image, 0, 0, small.width, small.width);
    this.painter.show(small);
    this.painter.clear();
    if (mask) await this.painter.load(mask);
    if (this.seed === seed) this.loading = false;
  },

  says() {
    const broken = this.broken(), marked = broken.filter((seed) => this.regions[seed]).length;
    this.line.textContent = `seed ${this.seed}, ${this.regions[this.seed] ? "marked" : "not marked"}; ${marked} of ${broken.length} broken images are marked`;
  },

  changed() {
    if (this.loading || this.seed === null) return;
    window.dash_clientside.set_props("artifacts-news", { data: { regions: { [this.seed]: this.painter.data() || null } } });
  },
};
