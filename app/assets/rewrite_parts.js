// What the Rewrite page is built of: its sections and fields, and the parts that follow the work. `page` is rewritePage.
"use strict";

const REWRITE_THUMB = 76;  // pixels a side of a region's small picture

const rewriteParts = {
  // An element: properties (on… are listeners, data an object), then children; what is empty is left out.
  made(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (value === undefined || value === null) continue;
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (name === "data") Object.assign(element.dataset, value);
      else if (name in element) element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
    return element;
  },

  line: (...children) => rewriteParts.made("div", { className: "line-of" }, ...children),

  label: (text, control) => rewriteParts.made("label", { className: "field" }, rewriteParts.made("span", {}, text), control),

  // An element that the page finds again by its name.
  part(page, name, tag, properties, ...children) {
    return (page.parts[name] = rewriteParts.made(tag, { id: `rewrite-${name}`, ...properties }, ...children));
  },

  button(page, name, text, act, className = "act", more = {}) {
    return rewriteParts.part(page, name, "button", { type: "button", className, onclick: act, ...more }, text);
  },

  // A field of the work: what is typed or chosen is kept.
  field(page, name, label, more = {}, choices = null) {
    const options = (choices || []).map(([value, text]) => rewriteParts.made("option", { value }, text));
    const kind = choices ? {} : { type: "text" };
    const onchange = (event) => page.typed(name, event.target.value);
    const control = rewriteParts.part(page, name, choices ? "select" : "input", { ...kind, ...more, onchange }, options);
    control.value = page.work.now.fields[name];
    return rewriteParts.label(label, control);
  },

  // A button that asks for a file.
  file(page, name, text, accept, act) {
    const onchange = async ({ target }) => {
      const [chosen] = target.files;
      target.value = "";
      if (chosen) await act(chosen);
    };
    const input = rewriteParts.part(page, name, "input", { type: "file", accept, className: "hidden-file", onchange });
    return rewriteParts.made("label", { className: "act file" }, text, input);
  },

  listed: (names, first = []) => [...first, ...names.map((name) => [name, name])],

  // -- the page ------------------------------------------------------------------------------------------------------------

  build(page) {
    const { made, part, section, line, button, field } = rewriteParts;
    for (const name of ["request", "match", "solve", "edits", "shown", "judge"]) part(page, `says-${name}`, "p", { className: "says", role: "status" });
    for (const what of ["match", "solve", "judge", "export"]) part(page, `meter-${what}`, "div", { className: "working", hidden: true });
    const { parts } = page;
    return [
      section("1", "What is to change",
        "Mark a place and say what it is for. The value is copied from one place and pasted at others; the context says " +
        "which other places are of the same kind.",
        made("div", { className: "asking" }, rewriteParts.painting(page), rewriteParts.request(page)), parts["says-request"]),
      section("2", "Where that is meant",
        "How strongly each place is meant, in images that the request does not name. Bright is as strongly as the context " +
        "itself; what is bright will change.",
        rewriteParts.network(page), parts["meter-match"], parts["says-match"], part(page, "matches", "div", { className: "tiles" })),
      section("3", "Solve", "The change of the layer's weights that does it. It is tried at once, below; keep it if it is good.",
        line(button(page, "solve", "Solve", () => page.begin("solve"), "act main")), parts["meter-solve"], parts["says-solve"]),
      section("4", "Edits", null,
        part(page, "edits", "ol", { className: "edits" }), rewriteParts.tools(page), parts["meter-export"], parts["says-edits"]),
      section("5", "On unseen images", null,
        line(field(page, "seeds", "seeds", { size: 22 })), parts["says-shown"],
        part(page, "shown", "div", { className: "shown" }), rewriteParts.judging(page)),
    ];
  },

  section(number, title, note, ...children) {
    const { made } = rewriteParts;
    const heading = made("h2", {}, made("span", { className: "step-number" }, number), title);
    const under = note && made("p", { className: "note" }, note);
    return made("section", {}, made("div", { className: "heading" }, heading), under, ...children);
  },

  painting(page) {
    const { made, part, button, field, line } = rewriteParts, { resolution, concepts } = page.facts;
    const called = "The image: mark a place with the pointer, or with the arrows and Space";
    const canvas = part(page, "canvas", "canvas", { className: "paint", tabIndex: 0, role: "img", ariaLabel: called });
    const painter = new MaskPainter(canvas, () => { page.root.dataset.marked = painter.data() ? "yes" : ""; });
    page.painter = painter;
    painter.width = Math.max(2, Math.round(resolution / 10));
    const tools = [["brush", "Brush"], ["box", "Box"], ["erase", "Eraser"]].map(([tool, text]) => button(
      page, `tool-${tool}`, text, () => page.tool(tool), "act", { ariaPressed: String(tool === "brush") }));
    const width = part(page, "width", "input", {
      type: "range", min: 1, max: Math.max(8, Math.round(resolution / 3)), value: painter.width,
      oninput: ({ target }) => { painter.width = Number(target.value); painter.draw(); },
    });
    return made("div", { className: "painting" },
      line(
        button(page, "earlier", "‹", () => page.further(-1), "act", { ariaLabel: "previous seed" }),
        field(page, "seed", "seed", { size: 3 }),
        button(page, "later", "›", () => page.further(1), "act", { ariaLabel: "next seed" }),
        made("span", { className: "segments", role: "group" }, tools),
        button(page, "all", "All", () => painter.all()), button(page, "clear", "Clear", () => painter.clear())),
      canvas,
      line(rewriteParts.label("width", width), concepts.length ? [
        field(page, "concept", "what is called", {}, rewriteParts.listed(concepts, [["", "a concept…"]])),
        button(page, "mark", "Mark it", () => page.attempt("says-request", page.mark)),
      ] : null),
      line(
        button(page, "to-copy", "Copy from here", () => page.put("copy"), "act main"),
        button(page, "to-paste", "Paste here", () => page.put("paste"), "act main"),
        button(page, "to-context", "Also meant here", () => page.put("context"), "act main")));
  },

  request(page) {
    const { made, part, button, field, line, label, file } = rewriteParts, { work, facts } = page;
    const says = { crop: "what is copied, in its shape", mean: "its mean, for colours and textures", erase: "nothing: what is usual there" };
    const goal = part(page, "goal", "select", { onchange: ({ target }) => work.change((now) => { now.request.goal = target.value; }) },
      facts.goals.map((one) => made("option", { value: one }, `${one}: ${says[one] || ""}`)));
    const name = part(page, "name", "input", {
      type: "text", placeholder: "blue crosses", size: 18,
      onchange: ({ target }) => work.change((now) => { now.request.name = target.value; }),
    });
    const anew = () => work.change((now) => { now.request = RewriteWork.empty(facts).request; });
    const regions = ["copy", "paste", "context"].map((kind) => [
      made("h3", {}, kind[0].toUpperCase() + kind.slice(1)), part(page, kind, "div", { className: "thumbs" }),
    ]);
    return made("div", { className: "regions" }, ...regions,
      facts.concepts.length ? line(
        made("span", { className: "quiet" }, "everything that is called the concept at the left, in"),
        field(page, "listed", "seeds", { size: 10 }),
        button(page, "list", "Add to the context", () => page.attempt("says-request", page.list))) : null,
      line(label("pasted is", goal)),
      line(label("name", name), button(page, "save", "Save request", page.save),
        file(page, "load", "Load request", ".json,application/json", (chosen) => page.attempt("says-request", () => page.load(chosen))),
        button(page, "new", "Start anew", anew)));
  },

  network(page) {
    const { field, line, listed } = rewriteParts, { layers, methods } = page.facts;
    return line(
      field(page, "layer", "layer", {}, listed(layers)), field(page, "rank", "rank", { size: 3, inputMode: "numeric" }),
      field(page, "method", "method", {}, listed(methods)),
      field(page, "memory", "typical by images", { size: 5, inputMode: "numeric" }), field(page, "look", "look at seeds", { size: 12 }),
      rewriteParts.button(page, "match", "Find matches", () => page.begin("match"), "act main"));
  },

  tools(page) {
    const { made, button, file, line } = rewriteParts;
    return line(
      button(page, "undo", "Undo", () => page.work.undo(), "act", { title: "Ctrl Z" }),
      button(page, "redo", "Redo", () => page.work.redo(), "act", { title: "Ctrl Shift Z" }),
      file(page, "bring", "Load a recipe", ".safetensors", (chosen) => page.attempt("says-edits", () => page.bring(chosen))),
      made("span", { className: "gap" }), made("span", { className: "quiet" }, "export what is on:"),
      button(page, "recipe", "Recipe", () => page.download("recipe")), button(page, "bundle", "Bundle", () => page.download("bundle")),
      button(page, "export", "Checkpoint", () => page.begin("export")));
  },

  judging(page) {
    const { made, part, button, field, line, listed } = rewriteParts, { concepts } = page.facts;
    if (!concepts.length) return null;
    const choices = listed(concepts, [["", "as requested"]]);
    return made("div", { className: "judging" }, made("h3", {}, "Effect and locality"),
      line(
        field(page, "source", "what was to change", {}, choices), field(page, "target", "into", {}, choices),
        field(page, "judge", "on seeds", { size: 12 }), button(page, "judged", "Measure", () => page.begin("judge"), "act main")),
      page.parts["meter-judge"], page.parts["says-judge"], part(page, "table", "div", { className: "card scroll", hidden: true }));
  },

  // -- parts that follow the work --------------------------------------------------------------------------------------------

  // A region of the request: its image, dark where it is not meant.
  thumb(page, kind, region, index) {
    const { made } = rewriteParts, seed = region.seed ?? region.seeds[0];
    const canvas = made("canvas", { width: REWRITE_THUMB, height: REWRITE_THUMB });
    rewriteParts.thumbnail(page, canvas, seed, region.mask).catch(() => {});
    const many = region.seeds && region.seeds.length > 1 ? `${region.seeds.length} images` : `seed ${seed}`;
    const says = region.concept ? `${region.concept}, ${many}` : many;
    const away = () => page.work.change(({ request }) => {
      if (kind === "copy") request.copy = null;
      else request[kind] = request[kind].filter((_, other) => other !== index);
    });
    return made("figure", { title: says }, canvas, made("figcaption", {}, says), made("button", {
      type: "button", className: "away", ariaLabel: `take ${says} away`, onclick: away, data: { focus: `${kind}-${index}` },
    }, "×"));
  },

  async thumbnail(page, canvas, seed, mask) {
    const image = await page.work.image(seed), side = image.width;
    const [layer, shade] = [0, 1].map(() => rewriteParts.made("canvas", { width: side, height: side }));
    if (mask) {
      const drawn = new Image();
      drawn.src = mask;
      await drawn.decode();
      layer.getContext("2d").drawImage(drawn, 0, 0, side, side);
    }
    MaskPainter.over(canvas.getContext("2d"), REWRITE_THUMB, image, mask ? layer : null, shade);
  },

  // An edit of the list. The slider's way is seen at once; where it ends is one step.
  edit(page, edit, index) {
    const { made } = rewriteParts, { work } = page, own = (now) => now.edits.find((one) => one.id === edit.id);
    const focus = (what) => ({ focus: `${edit.id}-${what}` });
    const toggle = made("input", {
      type: "checkbox", checked: edit.on, ariaLabel: `${edit.name} on`, data: focus("on"),
      onchange: ({ target }) => work.change((now) => { own(now).on = target.checked; }),
    });
    const says = made("output", { className: "num" }, `${Math.round(100 * edit.strength)}%`);
    let before;
    const slider = made("input", {
      type: "range", min: 0, max: 200, step: 5, ariaLabel: `strength of ${edit.name}`, data: focus("strength"),
      oninput: ({ target }) => {
        before ??= work.snapshot();
        own(work.now).strength = Number(target.value) / 100;
        says.textContent = `${target.value}%`;
        page.shown();
      },
      onchange: ({ target }) => {
        work.change((now) => { own(now).strength = Number(target.value) / 100; }, before);
        before = undefined;
      },
    });
    slider.value = Math.round(100 * edit.strength);
    const { layers, rank, method } = edit.summary;
    return made("li", { className: edit.draft ? "edit card draft" : "edit card" },
      made("label", { className: "check" }, toggle, made("b", {}, edit.name)),
      edit.draft && made("span", { className: "state" }, "not kept yet"),
      made("span", { className: "quiet where" }, layers.join(", ") + (rank ? `, ${method || "weights"}, rank ${rank}` : "")),
      made("span", { className: "strength" }, slider, says), made("span", { className: "acts" }, rewriteParts.acts(page, edit, index)),
      made("p", { className: "key" }, rewriteParts.numbers(edit.summary)),
      edit.warnings.map((text) => made("p", { className: "key trouble" }, text)));
  },

  acts(page, edit, index) {
    const { made } = rewriteParts, { work } = page;
    const small = (what, text, label, act, disabled = false) => made("button", {
      type: "button", className: "act small", ariaLabel: label, title: label, disabled, onclick: () => work.change(act),
      data: { focus: `${edit.id}-${what}` },
    }, text);
    const moved = (step) => (now) => {
      const [one] = now.edits.splice(index, 1);
      now.edits.splice(index + step, 0, one);
    };
    const away = (now) => { now.edits = now.edits.filter((one) => one.id !== edit.id); };
    const keep = (now) => { now.edits.find((one) => one.id === edit.id).draft = false; };
    const last = work.now.edits.filter((one) => !one.draft).length - 1;
    const order = [small("up", "↑", "earlier", moved(-1), index === 0), small("down", "↓", "later", moved(1), index >= last)];
    return [edit.draft ? small("keep", "Keep", "keep this edit", keep) : order, small("away", "×", `remove ${edit.name}`, away)];
  },

  percent: (share) => (share === null || share === undefined ? "–"
    : `${(100 * share).toFixed(Math.abs(share) < 0.1 ? 1 : 0)}%`.replace("-", "−")),

  // What was attained and how large the change is, in a line.
  numbers(summary) {
    const { percent } = rewriteParts, attained = summary.attained || {};
    if (summary.relative_norm === undefined) return summary.edits === 1 ? "1 edit" : `${summary.edits} edits`;
    const seen = attained.seen === null || attained.seen === undefined ? "" : `, of the layer ${percent(attained.seen)}`;
    return `attained of the values ${percent(attained.values)}${seen}; ${percent(summary.relative_norm)} of the weights' norm; ` +
      `disturbs typical values by ${percent(summary.disturbance)}`;
  },

  matches(found) {
    const { made, percent } = rewriteParts, title = "the strongest place, in units of the context";
    return found.pictures.map((src, index) => made("figure", {},
      made("img", { src, alt: `${found.names[index]}: where it is meant` }),
      made("figcaption", {}, made("span", {}, found.names[index]), made("span", { className: "num", title }, percent(found.strongest[index])))));
  },

  rows(found) {
    const { made } = rewriteParts, called = { before: "as they are", after: "with the edits", difference: "what that changes" };
    const rows = Object.entries(called).map(([row, says]) => made("div", { className: "row" }, made("span", { className: "quiet" }, says),
      made("div", { className: "images", data: { row } },
        found.rows[row].map((src, index) => made("img", { src, alt: `${found.names[index]}, ${says}` })))));
    const names = found.names.map((name, index) => made("span", {}, name,
      made("small", { title: "mean change of a pixel" }, ` ${found.change[index]}`)));
    return [...rows, made("div", { className: "row names" }, made("span", {}), made("div", { className: "images" }, names))];
  },

  table(found) {
    const { made } = rewriteParts, heads = Object.keys(found.rows[0]);
    return made("table", { className: "data" },
      made("thead", {}, made("tr", {}, heads.map((head) => made("th", {}, head === "measure" ? "" : head)))),
      made("tbody", {}, found.rows.map((row) => made("tr", {}, heads.map((head) => made("td", {}, row[head]))))));
  },

  // How far a job is, and the button that ends it.
  working(page, meter, what, stands) {
    const { made } = rewriteParts;
    if (meter.hidden) {
      const stop = made("button", { type: "button", className: "act", id: `rewrite-cancel-${what}`, onclick: () => page.cancel(what) }, "Cancel");
      meter.replaceChildren(made("span", { className: "meter wide" }), made("span", { className: "num" }), stop);
    }
    const jobs = stands.before === 1 ? "another job" : `${stands.before} other jobs`;
    const far = stands.total ? `, ${stands.done} of ${stands.total}` : "", ends = stands.cancelling ? "; ends as soon as it can" : "";
    meter.hidden = false;
    meter.children[0].style.setProperty("--v", (stands.total ? stands.done / stands.total : 0).toFixed(4));
    meter.children[1].textContent = stands.state === "waiting" ? `waits for ${jobs}` : stands.message + far + ends;
  },
};
