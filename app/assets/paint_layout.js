// What is on the Paint page, and the small pieces that it is made of.
"use strict";

const paintLayout = {
  build(page) {
    const { make, button } = paintParts, { facts } = page;
    const canvas = make("canvas", { className: "paint", tabIndex: 0, role: "application" });
    canvas.setAttribute("aria-label", "the image; arrows move the brush, Space paints, [ and ] change its width");
    const peek = button("Hold to see before", "peek", () => {}, { title: "or hold B" });
    peek.addEventListener("pointerdown", () => page.peek(true));
    for (const name of ["pointerup", "pointerleave"]) peek.addEventListener(name, () => page.peek(false));
    const figure = (name) => make("figure", {}, [make("img", { alt: name, "data-part": name }), make("figcaption", {}, [name])]);
    const left = make("div", {}, [
      canvas,
      make("div", { className: "line-of" }, [
        button("Undo", "undo", () => page.work.undo(), { title: "Ctrl+Z" }),
        button("Redo", "redo", () => page.work.redo(), { title: "Ctrl+Shift+Z" }),
        peek,
        paintParts.check("marks", "show the mask", (on) => { page.brush.marks = on; page.brush.draw(); }),
        make("span", { className: "num quiet", "data-part": "change" }),
      ]),
      make("p", { className: "says", "data-part": "says", role: "status" }),
      make("div", { className: "three" }, ["before", "after", "difference"].map(figure)),
    ]);
    const right = make("div", { className: "tools-of" }, [
      paintLayout.card("Image", [paintLayout.imageLine(page), make("div", { className: "sheet", "data-part": "sheet" })]),
      paintLayout.card("Brush", paintLayout.brushLines(page)),
      paintLayout.card("Edits", [make("ol", { className: "edits", "data-part": "edits" }), paintLayout.fileLine(page)]),
    ]);
    page.root.replaceChildren(make("div", { className: "board" }, [left, right]));
    page.brush = new PaintBrush(canvas, facts.side, {
      begun: () => page.begun(), ended: () => page.ended(), widened: (way) => page.use("width", page.work.now.tool.width + 2 * way),
    });
    page.part("sheet").append(...facts.sheet.map(({ seed, name, src }) => {
      const image = make("img", { src, loading: "lazy", alt: name });
      return button([image], `seed-${seed}`, () => page.go({ seed }), { title: name, className: "pick" });
    }));
  },

  card(title, parts) {
    return paintParts.make("section", { className: "card pad" }, [paintParts.make("h2", {}, [title]), ...parts]);
  },

  imageLine(page) {
    const { make, button, field, select } = paintParts, what = page.facts.explicit ? "sample" : "seed";
    const seed = make("input", { type: "text", inputMode: "numeric", size: 7, "data-part": "seed" });
    seed.addEventListener("change", () => page.typedSeed(seed.value));
    const step = (way) => () => page.go({ seed: Math.max(0, (page.work.now.start.seed ?? 0) + way) });
    const parts = [field(what, make("span", { className: "stepped" }, [
      button("‹", "earlier", step(-1), { "aria-label": "the one before", className: "step" }), seed,
      button("›", "later", step(1), { "aria-label": "the next one", className: "step" }),
    ]))];
    if (page.facts.latents) {
      const codes = select("latent", [], (value) => { if (value !== "") page.go({ w: Number(value) }); });
      parts.push(field("or w codes", codes), paintParts.opens("Open codes…", "open-latents", ".npy,.npz,.pt,.safetensors", (file) => page.openLatents(file)));
    }
    return make("div", { className: "line-of" }, parts);
  },

  brushLines(page) {
    const { make, field, select, range } = paintParts, { facts } = page, tool = (name) => (value) => page.use(name, value);
    const kinds = [["erase", "Erase"], ["draw", "Draw"], ["restore", "Take back"]].map(([kind, name]) => (
      paintParts.button(name, `kind-${kind}`, () => tool("kind")(kind), { title: kind === "restore" ? "make the current edit's mask smaller" : "" })));
    const typed = (name, size) => {
      const input = make("input", { type: "text", size, "data-part": name });
      input.addEventListener("change", () => tool(name)(input.value.trim()));
      return input;
    };
    const concepts = [["", "by units"], ...facts.concepts.map(({ name, units }) => [name, units ? `${name} (${units} unit${units === 1 ? "" : "s"})` : name])];
    return [
      make("div", { className: "segments", role: "group", "aria-label": "what the brush does" }, kinds),
      make("div", { className: "line-of" }, [
        field("concept", select("concept", concepts, tool("concept"))),
        field("layer", select("layer", facts.layers.map((name) => [name, name]), tool("layer"))),
      ]),
      make("div", { className: "line-of" }, [field("best", typed("count", 2)), field("units", typed("units", 26))]),
      make("div", { className: "line-of" }, [
        field("draws", select("put", [["high", "a high level (0.5%)"], ["mean", "the mean where it is"]], tool("put"))),
        field("strength", range("strength", 0, 1, 0.05, tool("strength"), tool("strength"))),
        field("width", range("width", 1, 60, 1, tool("width"), tool("width"))),
      ]),
      make("div", { className: "line-of" }, [
        paintParts.button("Everywhere", "everywhere", () => page.everywhere(), { title: "the whole image, without a mask" }),
        paintParts.button("New edit", "fresh", () => page.choose(null), { title: "the next stroke begins another edit" }),
      ]),
    ];
  },

  fileLine(page) {
    const { make, button, opens } = paintParts, saving = (path) => () => page.attempt(() => page.work.saveAs(path, page.work.question()));
    return make("div", { className: "line-of" }, [
      button("Save recipe", "save", saving("recipe"), { title: "the edits that are on, as a file for this generator" }),
      opens("Open recipe…", "open", ".safetensors", (file) => page.openRecipe(file)),
      button("Export", "export", () => page.attempt(() => page.exportAll()), { title: "a checkpoint where that is exact, else a bundle" }),
      button("PNG", "picture", saving("picture"), { title: "the image as it is now" }),
    ]);
  },

  // An edit in the list.
  edit(page, edit) {
    const { make, button, range, check } = paintParts, { now } = page.work, of = (name) => `edit-${edit.id}-${name}`;
    const what = edit.kind === "file" ? "from a file" : `${edit.kind} ${edit.name || "units"}`;
    const units = edit.units.length ? `${edit.units.length} unit${edit.units.length === 1 ? "" : "s"}, ` : "";
    const where = edit.kind === "file" ? edit.layer : `${units}${edit.layer}${edit.mask === null ? ", everywhere" : ""}`;
    const on = check(of("on"), "", (value) => page.alter(edit.id, (one) => { one.on = value; }), edit.on);
    on.firstChild.setAttribute("aria-label", `${what}: on`);
    const name = button([make("b", {}, [what]), make("small", {}, [` ${where}`])], of("name"), () => page.choose(edit.id), { className: "name", title: "go on with this edit" });
    name.setAttribute("aria-pressed", String(edit.id === now.current));
    const away = button("×", of("away"), () => page.work.change((all) => {
      all.edits = all.edits.filter((one) => one.id !== edit.id);
      if (all.current === edit.id) all.current = null;
    }), { className: "step" });
    away.setAttribute("aria-label", `delete ${what}`);
    const strength = range(of("strength"), 0, 1, 0.05, () => {
      const before = page.changing;
      page.changing = null;
      page.controls();
      page.work.change(() => {}, before || undefined);
    }, (value) => {  // while it is dragged: seen at once, one step of the history in the end
      page.changing ??= page.work.snapshot();
      page.work.edit(edit.id).strength = value;
      if (edit.id === now.current) now.tool.strength = value;
      page.part(`${of("strength")}-says`).textContent = value.toFixed(2);
      page.refresh();
    });
    strength.firstChild.value = edit.strength;
    strength.firstChild.setAttribute("aria-label", `${what}: strength`);
    strength.lastChild.textContent = Number(edit.strength).toFixed(2);
    return make("li", { className: edit.id === now.current ? "edit here" : "edit" }, [on, name, strength, away]);
  },
};

const paintParts = {
  make(name, attributes = {}, children = []) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key in made) made[key] = value;
      else made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  },

  button(content, part, act, more = {}) {
    const made = paintParts.make("button", { type: "button", className: "act", "data-part": part, ...more }, [].concat(content));
    made.addEventListener("click", act);
    return made;
  },

  field(name, control) {
    return paintParts.make("label", { className: "field" }, [name, control]);
  },

  select(part, options, act) {
    const made = paintParts.make("select", { "data-part": part }, options.map(([value, text]) => paintParts.make("option", { value }, [text])));
    made.addEventListener("change", () => act(made.value));
    return made;
  },

  // A slider and its number. moved: called while it is dragged.
  range(part, min, max, step, act, moved = () => {}) {
    const input = paintParts.make("input", { type: "range", min, max, step, "data-part": part });
    const says = paintParts.make("span", { className: "num", "data-part": `${part}-says` });
    input.addEventListener("input", () => moved(Number(input.value)));
    input.addEventListener("change", () => act(Number(input.value)));
    return paintParts.make("span", { className: "ranged" }, [input, says]);
  },

  check(part, name, act, on = false) {
    const input = paintParts.make("input", { type: "checkbox", checked: on, "data-part": part });
    input.addEventListener("change", () => act(input.checked));
    return paintParts.make("label", { className: "field" }, [input, name]);
  },

  opens(name, part, accept, act) {
    const input = paintParts.make("input", { type: "file", accept, className: "hidden-file", "data-part": part, title: "" });
    input.addEventListener("change", () => {
      const [file] = input.files;
      input.value = "";
      if (file) act(file);
    });
    return paintParts.make("label", { className: "act file" }, [name, input]);
  },
};
