// The Rewrite page: copy, paste, context; what it means elsewhere; solving; the edits; what they do to unseen images.
"use strict";

const POLL = 350;  // milliseconds between two looks at a job
const THUMB = 76;

// An element: properties (on… are listeners, data an object), then children.
function made(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const rewritePage = {
  // Another tab of this browser has changed the same work.
  async elsewhere({ data }) {
    const { root, work } = rewritePage;
    if (!root.isConnected || data !== work.facts.id) return;
    await work.load();
    rewritePage.refresh();
  },

  // Show the page in its element. What was done before is there again.
  async open(root, facts) {
    if (rewriteStore.channel) rewriteStore.channel.onmessage = rewritePage.elsewhere;
    const work = new RewriteWork(facts, (what) => rewritePage.told(what));
    Object.assign(rewritePage, { root, facts, work, parts: {} });
    await work.load();
    if (!root.isConnected) return;
    rewritePage.build();
    rewritePage.refresh();
    await rewritePage.seed(work.now.fields.seed);
    Object.keys(work.now.jobs).forEach(rewritePage.follow);
    root.dataset.ready = "yes";
  },

  told(what) {
    if (what === "saved") rewritePage.root.dataset.saved = rewritePage.work.saved;
    else rewritePage.refresh();
  },

  say(name, text, trouble = true) {
    const place = rewritePage.parts[name];
    if (!place) return;
    place.textContent = text;
    place.classList.toggle("trouble", trouble && Boolean(text));
  },

  // Do something that may fail, and say so in one place.
  async attempt(place, act) {
    rewritePage.say(place, "");
    try {
      await act();
    } catch (error) {
      rewritePage.say(place, error.message);
    }
  },

  // -- parts that never change -------------------------------------------------------------------------------------------

  build() {
    const { root, parts } = rewritePage;
    const part = (name, tag, properties, ...children) => (parts[name] = made(tag, { id: `rewrite-${name}`, ...properties }, ...children));
    const places = ["says-request", "says-match", "says-solve", "says-edits", "says-shown", "says-judge"];
    places.forEach((name) => part(name, "p", { className: "says", role: "status" }));
    ["match", "solve", "judge", "export"].forEach((what) => part(`meter-${what}`, "div", { className: "working", hidden: true }));
    root.replaceChildren(
      rewritePage.section("1", "What is to change", "Mark a place and say what it is for. The value is copied from one place and pasted at others; the context says which other places are of the same kind.",
        made("div", { className: "asking" }, rewritePage.painting(part), rewritePage.request(part)), parts["says-request"]),
      rewritePage.section("2", "Where that is meant", "How strongly each place is meant, in images that the request does not name. Bright is as strongly as the context itself; what is bright will change.",
        rewritePage.network(part), parts["meter-match"], parts["says-match"], part("matches", "div", { className: "tiles" })),
      rewritePage.section("3", "Solve", "The smallest change of the layer's weights that does it. It is tried at once, below; keep it if it is good.",
        made("div", { className: "line-of" }, rewritePage.button("solve", "Solve", () => rewritePage.begin("solve"), "act main")),
        parts["meter-solve"], parts["says-solve"]),
      rewritePage.section("4", "Edits", null, part("edits", "ol", { className: "edits" }), rewritePage.tools(part), parts["meter-export"], parts["says-edits"]),
      rewritePage.section("5", "On unseen images", null,
        made("div", { className: "line-of" }, rewritePage.field("seeds", "seeds", { size: 22 })), parts["says-shown"],
        part("shown", "div", { className: "shown" }), rewritePage.judging(part)),
    );
  },

  section(number, title, note, ...children) {
    const heading = made("div", { className: "heading" }, made("h2", {}, made("span", { className: "step-number" }, number), title));
    return made("section", {}, heading, note && made("p", { className: "note" }, note), ...children);
  },

  button(name, text, act, className = "act", more = {}) {
    return (rewritePage.parts[name] = made("button", { id: `rewrite-${name}`, type: "button", className, onclick: act, ...more }, text));
  },

  // A field of the work: what is typed is kept.
  field(name, label, more = {}, choices = null) {
    const { work } = rewritePage;
    const properties = { id: `rewrite-${name}`, value: work.now.fields[name], onchange: (event) => rewritePage.typed(name, event.target.value), ...more };
    const options = (choices || []).map(([value, text]) => made("option", { value }, text));
    const control = made(choices ? "select" : "input", choices ? {} : { type: "text" }, options);
    for (const [key, value] of Object.entries(properties)) {
      if (key.startsWith("on")) control.addEventListener(key.slice(2), value);
      else control[key] = value;
    }
    rewritePage.parts[name] = control;
    return made("label", { className: "field" }, made("span", {}, label), control);
  },

  typed(name, value) {
    rewritePage.work.now.fields[name] = value;
    rewritePage.work.save();
    if (name === "seed") rewritePage.seed(value);
    if (name === "seeds") rewritePage.shown();
  },

  painting(part) {
    const canvas = part("canvas", "canvas", { className: "paint", tabIndex: 0, "aria-label": "The image: mark a place with the pointer, or with arrows and Space" });
    const painter = (rewritePage.painter = new MaskPainter(canvas, () => { rewritePage.root.dataset.marked = painter.data() ? "yes" : ""; }));
    const tools = [["brush", "Brush"], ["box", "Box"], ["erase", "Eraser"]].map(([tool, text]) => rewritePage.button(`tool-${tool}`, text, () => rewritePage.tool(tool), "act", { "aria-pressed": String(tool === "brush") }));
    const width = made("input", { type: "range", id: "rewrite-width", min: 1, max: Math.max(8, Math.round(rewritePage.facts.resolution / 3)), value: Math.max(2, Math.round(rewritePage.facts.resolution / 10)), "aria-label": "width of the brush in pixels", oninput: (event) => { painter.width = Number(event.target.value); painter.draw(); } });
    painter.width = Number(width.value);
    const concepts = [["", "a concept…"], ...rewritePage.facts.concepts.map((name) => [name, name])];
    return made("div", { className: "painting" },
      made("div", { className: "line-of" },
        rewritePage.button("earlier", "‹", () => rewritePage.further(-1), "act", { "aria-label": "previous seed" }),
        rewritePage.field("seed", "seed", { size: 5 }),
        rewritePage.button("later", "›", () => rewritePage.further(1), "act", { "aria-label": "next seed" }),
        made("span", { className: "segments", role: "group" }, tools), rewritePage.button("all", "All", () => painter.all()), rewritePage.button("clear", "Clear", () => painter.clear())),
      canvas,
      made("div", { className: "line-of" }, made("label", { className: "field" }, made("span", {}, "width"), width),
        rewritePage.facts.concepts.length ? rewritePage.field("concept", "what is called", {}, concepts) : null,
        rewritePage.facts.concepts.length ? rewritePage.button("mark", "Mark it", () => rewritePage.attempt("says-request", rewritePage.mark)) : null),
      made("div", { className: "line-of" },
        rewritePage.button("to-copy", "Copy from here", () => rewritePage.put("copy"), "act main"),
        rewritePage.button("to-paste", "Paste here", () => rewritePage.put("paste"), "act main"),
        rewritePage.button("to-context", "Also meant here", () => rewritePage.put("context"), "act main")));
  },

  request(part) {
    const goals = { crop: "what is copied, in its shape", mean: "its mean, for colours and textures", erase: "nothing: what is usual there" };
    const choose = made("select", { id: "rewrite-goal", onchange: (event) => rewritePage.work.change((now) => { now.request.goal = event.target.value; }) },
      rewritePage.facts.goals.map((goal) => made("option", { value: goal }, `${goal}: ${goals[goal] || ""}`)));
    const name = made("input", { id: "rewrite-name", type: "text", placeholder: "blue crosses", size: 18, onchange: (event) => rewritePage.work.change((now) => { now.request.name = event.target.value; }) });
    Object.assign(rewritePage.parts, { goal: choose, name });
    const file = made("input", { type: "file", id: "rewrite-load", accept: ".json,application/json", className: "hidden-file", onchange: (event) => rewritePage.attempt("says-request", () => rewritePage.load(event.target)) });
    return made("div", { className: "regions" },
      made("h3", {}, "Copy"), part("copy", "div", { className: "thumbs" }),
      made("h3", {}, "Paste"), part("paste", "div", { className: "thumbs" }),
      made("h3", {}, "Context"), part("context", "div", { className: "thumbs" }),
      rewritePage.facts.concepts.length ? made("div", { className: "line-of" },
        made("span", { className: "quiet" }, "everything that is called the concept at the left, in seeds"), rewritePage.field("listed", "", { size: 10, ariaLabel: "seeds of the context" }),
        rewritePage.button("list", "Add to the context", () => rewritePage.attempt("says-request", rewritePage.list))) : null,
      made("div", { className: "line-of" }, made("label", { className: "field" }, made("span", {}, "pasted is"), choose)),
      made("div", { className: "line-of" }, made("label", { className: "field" }, made("span", {}, "name"), name),
        rewritePage.button("save", "Save request", rewritePage.save),
        made("label", { className: "act file" }, "Load request", file),
        rewritePage.button("new", "Start anew", () => rewritePage.work.change((now) => { now.request = RewriteWork.empty(rewritePage.facts).request; }))));
  },

  network(part) {
    const listed = (names) => names.map((name) => [name, name]);
    return made("div", { className: "line-of" },
      rewritePage.field("layer", "layer", {}, listed(rewritePage.facts.layers)), rewritePage.field("rank", "rank", { size: 3, inputMode: "numeric" }),
      rewritePage.field("method", "method", {}, listed(rewritePage.facts.methods)), rewritePage.field("memory", "typical by images", { size: 5, inputMode: "numeric" }),
      rewritePage.field("look", "look at seeds", { size: 12 }), rewritePage.button("match", "Find matches", () => rewritePage.begin("match"), "act main"));
  },

  tools() {
    const file = made("input", { type: "file", id: "rewrite-bring", accept: ".safetensors", className: "hidden-file", onchange: (event) => rewritePage.attempt("says-edits", () => rewritePage.bring(event.target)) });
    return made("div", { className: "line-of" },
      rewritePage.button("undo", "Undo", () => rewritePage.work.undo(), "act", { title: "Ctrl Z" }), rewritePage.button("redo", "Redo", () => rewritePage.work.redo(), "act", { title: "Ctrl Shift Z" }),
      made("label", { className: "act file" }, "Load a recipe", file), made("span", { className: "gap" }),
      made("span", { className: "quiet" }, "export what is on:"),
      rewritePage.button("recipe", "Recipe", () => rewritePage.download("recipe")), rewritePage.button("bundle", "Bundle", () => rewritePage.download("bundle")),
      rewritePage.button("export", "Checkpoint", () => rewritePage.begin("export")));
  },

  judging(part) {
    const { concepts } = rewritePage.facts;
    if (!concepts.length) return null;
    const choices = (usual) => [["", usual], ...concepts.map((name) => [name, name])];
    return made("div", { className: "judging" }, made("h3", {}, "Effect and locality"),
      made("div", { className: "line-of" },
        rewritePage.field("source", "what was to change", {}, choices("as requested")), rewritePage.field("target", "into", {}, choices("as requested")),
        rewritePage.field("judge", "on seeds", { size: 12 }), rewritePage.button("judged", "Measure", () => rewritePage.begin("judge"), "act main")),
      rewritePage.parts["meter-judge"], rewritePage.parts["says-judge"], part("table", "div", { className: "card scroll", hidden: true }));
  },

  // -- marking -------------------------------------------------------------------------------------------------------------

  tool(tool) {
    rewritePage.painter.tool = tool;
    for (const other of ["brush", "box", "erase"]) rewritePage.parts[`tool-${other}`].setAttribute("aria-pressed", String(other === tool));
    rewritePage.painter.draw();
  },

  further(step) {
    const now = Number.parseInt(rewritePage.parts.seed.value, 10) || 0;
    rewritePage.parts.seed.value = String(Math.max(0, now + step));
    rewritePage.typed("seed", rewritePage.parts.seed.value);
  },

  async seed(text) {
    await rewritePage.attempt("says-request", async () => {
      if (!/^\d{1,10}$/.test(text.trim())) throw new Error("Expected a seed: a whole number.");
      const image = await rewritePage.work.image(Number(text));
      if (rewritePage.parts.seed.value !== text) return;  // another one is wanted by now
      rewritePage.painter.show(image);
      if (rewritePage.shownSeed !== text) rewritePage.painter.clear();
      rewritePage.shownSeed = text;
      rewritePage.root.dataset.seed = text.trim();
    });
  },

  async mark() {
    const { concept, seed } = rewritePage.work.now.fields;
    if (!concept) throw new Error("Choose a concept first.");
    const path = `where/${Number(seed)}?concept=${encodeURIComponent(concept)}&edits=${rewritePage.work.stack(false)}`;
    const blob = await (await rewritePage.work.fetch(path)).blob(), address = URL.createObjectURL(blob);
    await rewritePage.painter.load(address, true);
    URL.revokeObjectURL(address);
  },

  put(kind) {
    return rewritePage.attempt("says-request", async () => {
      const mask = rewritePage.painter.data();
      if (!mask) throw new Error("Mark a place in the image first: with the brush or a box.");
      const region = { seed: Number(rewritePage.work.now.fields.seed), mask };
      await rewritePage.work.change(({ request }) => {
        if (kind === "copy") request.copy = region;
        else request[kind] = [...request[kind], region];
      });
      rewritePage.painter.clear();
    });
  },

  async list() {
    const { concept, listed } = rewritePage.work.now.fields;
    if (!concept) throw new Error("Choose a concept first, at the left.");
    const seeds = listed.trim().split(/[,;\s]+/).flatMap((part) => {
      const found = part.match(/^(\d{1,10})(?:([:-])(\d{1,10}))?$/);
      if (!found) throw new Error("Expected seeds such as 0:6 or 3, 17, 40.");
      const first = Number(found[1]), stop = found[2] ? Number(found[3]) + (found[2] === "-") : first + 1;
      return Array.from({ length: Math.max(0, Math.min(1001, stop - first)) }, (_, index) => first + index);
    });
    if (!seeds.length || seeds.length > 1000) throw new Error("Expected 1 to 1,000 seeds.");
    await rewritePage.work.change(({ request }) => { request.context = [...request.context, { seeds, concept }]; });
  },

  // -- files ---------------------------------------------------------------------------------------------------------------

  save() {
    return rewritePage.attempt("says-request", () => {
      if (!rewritePage.work.now.request.paste.length) throw new Error("There is nothing to save yet: a request pastes somewhere.");
      rewritePage.saved();
    });
  },

  saved() {
    const { work } = rewritePage, name = (work.now.request.name || "request").replace(/[^\p{L}\p{N}]+/gu, "-");
    ganatomy.save(new Blob([`${JSON.stringify(work.asFile(), null, 1)}\n`], { type: "application/json" }), `${name}.json`);
  },

  async load(input) {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    const given = await rewritePage.work.json("request", { method: "POST", body: await file.text() });
    await rewritePage.work.change((now) => { now.request = { name: "", copy: null, ...given.request, context: rewritePage.grouped(given.request.context || []) }; });
    if (given.remark) rewritePage.say("says-request", given.remark);
  },

  // Regions of one concept in several images, one after the other, as one.
  grouped(regions) {
    return regions.reduce((all, region) => {
      const last = all.at(-1);
      if (region.mask || !region.concept) return [...all, region];
      if (last && !last.mask && last.concept === region.concept) return [...all.slice(0, -1), { seeds: [...last.seeds, region.seed], concept: last.concept }];
      return [...all, { seeds: [region.seed], concept: region.concept }];
    }, []);
  },

  async bring(input) {
    const [file] = input.files;
    input.value = "";
    if (file) await rewritePage.work.add(await file.arrayBuffer(), { name: file.name.replace(/\.safetensors$/, "") });
  },

  download(kind) {
    return rewritePage.attempt("says-edits", async () => {
      if (!rewritePage.work.stack()) throw new Error("No edit is switched on.");
      const response = await rewritePage.work.fetch(`${kind}?edits=${rewritePage.work.stack()}`);
      const name = (response.headers.get("Content-Disposition") || "").match(/filename="?([^";]+)/);
      ganatomy.save(await response.blob(), name ? name[1] : kind);
    });
  },

  // -- jobs ----------------------------------------------------------------------------------------------------------------

  place: (what) => ({ match: "says-match", solve: "says-solve", judge: "says-judge", export: "says-edits" })[what],

  begin(what) {
    return rewritePage.attempt(rewritePage.place(what), async () => {
      if (rewritePage.work.now.jobs[what]) return;
      await rewritePage.work.begin(what, rewritePage.work.question(what));
      rewritePage.follow(what);
    });
  },

  // Look at a job until it has ended, then show what came of it; also one that was begun before the page was reloaded.
  async follow(what) {
    const { work, root } = rewritePage, token = work.now.jobs[what], meter = rewritePage.parts[`meter-${what}`];
    while (root.isConnected && rewritePage.work === work && work.now.jobs[what] === token) {
      let stands;
      try {
        stands = await work.json(`job/${token}`);
      } catch (error) {
        stands = { state: "failed", error: error.message };
      }
      if (["waiting", "running"].includes(stands.state)) {
        rewritePage.working(meter, what, token, stands);
        await new Promise((resolve) => { setTimeout(resolve, POLL); });
        continue;
      }
      if (meter) meter.hidden = true;
      work.ended(what);
      await rewritePage.attempt(rewritePage.place(what), async () => {
        if (stands.state === "failed") throw new Error(stands.error);
        if (stands.state === "cancelled") rewritePage.say(rewritePage.place(what), "Cancelled.", false);
        else await rewritePage.came(what, stands.result);
      });
      await work.save();
    }
  },

  working(meter, what, token, stands) {
    if (!meter) return;
    const share = stands.total ? stands.done / stands.total : 0;
    const text = stands.state === "waiting" ? `waits for ${stands.before} other ${stands.before === 1 ? "job" : "jobs"}`
      : `${stands.message}${stands.total ? `, ${stands.done} of ${stands.total}` : ""}${stands.cancelling ? "; ends as soon as it can" : ""}`;
    if (meter.hidden) {
      const bar = made("span", { className: "meter wide" });
      const stop = made("button", { type: "button", className: "act", id: `rewrite-cancel-${what}`, onclick: () => rewritePage.work.json(`job/${token}/cancel`, { method: "POST" }).catch(() => {}) }, "Cancel");
      meter.replaceChildren(bar, made("span", { className: "num" }), stop);
    }
    meter.hidden = false;
    meter.children[0].style.setProperty("--v", share.toFixed(4));
    meter.children[1].textContent = text;
  },

  async came(what, result) {
    const { work } = rewritePage;
    if (what === "match") {
      work.now.match = { ...result, layer: work.now.fields.layer };
      rewritePage.matches();
    } else if (what === "judge") {
      work.now.judged = result;
      rewritePage.judged();
    } else if (what === "export") {
      const response = await work.fetch(`export/${result.file}`);
      ganatomy.save(await response.blob(), result.name);
      rewritePage.say("says-edits", `${result.name} was compared with the edits and saved.`, false);
    } else {
      const data = await (await work.fetch(`edits/${result.key}`)).arrayBuffer();
      const name = result.summary.name || `${result.summary.observed}, rank ${work.now.fields.rank}`;
      await work.add(data, { name, draft: true, warnings: result.warnings });
      const found = rewritePage.numbers(result.summary);
      rewritePage.say("says-solve", `Solved: ${found}. ${result.warnings.join(" ")}`, result.warnings.length > 0);
    }
  },

  percent: (share) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(Math.abs(share) < 0.1 ? 1 : 0)}%`.replace("-", "−")),

  // What was attained and how large the change is, in a line.
  numbers(summary) {
    if (summary.relative_norm === undefined) return summary.kind === "units" ? `${summary.edits} edits of units` : `${summary.edits} edits`;
    const attained = summary.attained || {};
    const inLayer = attained.seen === null || attained.seen === undefined ? "" : `, of the layer ${rewritePage.percent(attained.seen)}`;
    return `attained of the values ${rewritePage.percent(attained.values)}${inLayer}; ${rewritePage.percent(summary.relative_norm)} of the weights' norm; disturbs typical values by ${rewritePage.percent(summary.disturbance)}`;
  },

  // -- parts that follow the work --------------------------------------------------------------------------------------------

  refresh() {
    const { work, parts, root } = rewritePage, { request } = work.now;
    const focused = root.contains(document.activeElement) && document.activeElement.dataset.focus;
    parts.goal.value = request.goal;
    parts.name.value = request.name;
    const regions = { copy: request.copy ? [request.copy] : [], paste: request.paste, context: request.context };
    for (const [kind, listed] of Object.entries(regions)) parts[kind].replaceChildren(...listed.map((region, index) => rewritePage.thumb(kind, region, index)));
    for (const kind of ["copy", "paste"]) if (!regions[kind].length) parts[kind].append(made("span", { className: "quiet" }, kind === "copy" && request.goal === "erase" ? "nothing is copied" : "nothing yet"));
    if (!request.context.length) parts.context.append(made("span", { className: "quiet" }, "none: what is pasted into says which places are meant"));
    parts.edits.replaceChildren(...work.now.edits.map(rewritePage.edit));
    if (!work.now.edits.length) parts.edits.append(made("li", { className: "quiet" }, "No edit yet."));
    parts.undo.disabled = !work.now.past.length;
    parts.redo.disabled = !work.now.future.length;
    if (focused) root.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
    rewritePage.matches();
    rewritePage.judged();
    rewritePage.shown();
    if (rewritePage.stackShown !== work.stack(false) && rewritePage.shownSeed !== undefined) rewritePage.seed(work.now.fields.seed);
    rewritePage.stackShown = work.stack(false);
    root.dataset.edits = work.stack();
  },

  thumb(kind, region, index) {
    const canvas = made("canvas", { width: THUMB, height: THUMB });
    const seed = region.seed ?? region.seeds[0];
    rewritePage.thumbnail(canvas, seed, region.mask).catch(() => {});
    const many = region.seeds && region.seeds.length > 1 ? `${region.seeds.length} images` : `seed ${seed}`;
    const says = region.concept ? `${region.concept}, ${many}` : many;
    const remove = () => rewritePage.work.change(({ request }) => {
      if (kind === "copy") request.copy = null;
      else request[kind] = request[kind].filter((_, other) => other !== index);
    });
    return made("figure", { title: says }, canvas, made("figcaption", {}, says),
      made("button", { type: "button", className: "away", "aria-label": `take ${says} away`, onclick: remove, data: { focus: `${kind}-${index}` } }, "×"));
  },

  async thumbnail(canvas, seed, mask) {
    const image = await rewritePage.work.image(seed), side = image.width;
    const [layer, shade] = [0, 1].map(() => made("canvas", { width: side, height: side }));
    if (mask) {
      const drawn = new Image();
      drawn.src = mask;
      await drawn.decode();
      layer.getContext("2d").drawImage(drawn, 0, 0, side, side);
    }
    MaskPainter.over(canvas.getContext("2d"), THUMB, image, mask ? layer : null, shade);
  },

  edit(edit, index) {
    const { work } = rewritePage, own = (now) => now.edits.find((one) => one.id === edit.id);
    const focus = (what) => ({ focus: `${edit.id}-${what}` });
    const toggle = made("input", { type: "checkbox", checked: edit.on, "aria-label": `${edit.name} on`, onchange: (event) => work.change((now) => { own(now).on = event.target.checked; }), data: focus("on") });
    const says = made("output", { className: "num" }, `${Math.round(100 * edit.strength)}%`);
    let before = null;
    const slider = made("input", { type: "range", min: 0, max: 200, step: 5, value: Math.round(100 * edit.strength), "aria-label": `strength of ${edit.name}`, data: focus("strength"),
      oninput: (event) => {
        before ??= work.snapshot();
        own(work.now).strength = Number(event.target.value) / 100;
        says.textContent = `${event.target.value}%`;
        rewritePage.shown();
      },
      onchange: (event) => {
        work.change((now) => { own(now).strength = Number(event.target.value) / 100; }, before ?? undefined);
        before = null;
      } });
    const moved = (step) => work.change((now) => {
      const [one] = now.edits.splice(index, 1);
      now.edits.splice(index + step, 0, one);
    });
    const last = work.now.edits.filter((one) => !one.draft).length - 1;
    const small = (what, text, label, act, disabled) => made("button", { type: "button", className: "act small", "aria-label": label, title: label, disabled, onclick: act, data: focus(what) }, text);
    return made("li", { className: edit.draft ? "edit card draft" : "edit card", data: { edit: edit.id } },
      made("label", { className: "check" }, toggle, made("b", {}, edit.name)),
      edit.draft ? made("span", { className: "state" }, "not kept yet") : null,
      made("span", { className: "quiet where" }, `${edit.summary.layers.join(", ")}${edit.summary.rank ? `, ${edit.summary.method || "weights"}, rank ${edit.summary.rank}` : ""}`),
      made("span", { className: "strength" }, slider, says),
      made("span", { className: "acts" },
        edit.draft ? small("keep", "Keep", "keep this edit", () => work.change((now) => { own(now).draft = false; }))
          : [small("up", "↑", "earlier", () => moved(-1), index === 0), small("down", "↓", "later", () => moved(1), index >= last)],
        small("away", "×", `remove ${edit.name}`, () => work.change((now) => { now.edits = now.edits.filter((one) => one.id !== edit.id); }))),
      made("p", { className: "key" }, rewritePage.numbers(edit.summary)),
      edit.warnings.map((text) => made("p", { className: "key trouble" }, text)));
  },

  matches() {
    const { parts, work } = rewritePage, found = work.now.match;
    if (!found || parts.matches.match === found) return;
    parts.matches.match = found;
    parts.matches.replaceChildren(...found.pictures.map((source, index) => made("figure", {},
      made("img", { src: source, alt: `${found.names[index]}: where it is meant` }),
      made("figcaption", {}, made("span", {}, found.names[index]), made("span", { className: "num", title: "the strongest place, in units of the context" }, rewritePage.percent(found.strongest[index]))))));
    const times = found.context.toFixed(1);
    rewritePage.say("says-match", `At ${found.layer} the context is meant ${times} times as strongly as is usual. Below each image: its strongest place, as a share of that.`, found.context < 1.5);
  },

  async shown() {
    const { work, parts } = rewritePage, seeds = work.now.fields.seeds.trim(), stack = work.stack();
    const wanted = `${seeds}|${stack}`;
    if (parts.shown.wanted === wanted) return;
    parts.shown.wanted = wanted;
    const turn = ++work.turn;
    await rewritePage.attempt("says-shown", async () => {
      try {
        const query = new URLSearchParams({ seeds, edits: stack, who: work.who, turn });
        const found = await work.json(`shown?${query}`);
        if (found && parts.shown.wanted === wanted) rewritePage.rows(found, wanted);
      } catch (error) {
        if (parts.shown.wanted === wanted) parts.shown.wanted = null;  // it may be asked for again
        throw error;
      }
    });
  },

  rows(found, shown) {
    const called = { before: "as they are", after: "with the edits", difference: "what that changes" };
    const rows = Object.entries(called).map(([row, says]) => made("div", { className: "row" }, made("span", { className: "quiet" }, says),
      made("div", { className: "images", data: { row } }, found.rows[row].map((source, index) => made("img", { src: source, alt: `${found.names[index]}, ${says}` })))));
    const names = made("div", { className: "row names" }, made("span", {}), made("div", { className: "images" }, found.names.map((name, index) => made("span", {}, name, made("small", { title: "mean change of a pixel" }, ` ${found.change[index]}`)))));
    rewritePage.parts.shown.style.setProperty("--n", found.seeds.length);
    rewritePage.parts.shown.replaceChildren(...rows, names);
    rewritePage.parts.shown.dataset.shown = shown;
  },

  judged() {
    const { parts, work } = rewritePage, found = work.now.judged;
    if (!found || !parts.table || parts.table.judged === found) return;
    parts.table.judged = found;
    const heads = Object.keys(found.rows[0]);
    parts.table.hidden = false;
    parts.table.replaceChildren(made("table", { className: "data" }, made("thead", {}, made("tr", {}, heads.map((head) => made("th", {}, head === "measure" ? "" : head)))),
      made("tbody", {}, found.rows.map((row) => made("tr", {}, heads.map((head) => made("td", {}, row[head])))))));
    rewritePage.say("says-judge", found.told + (found.left_out ? ` ${found.left_out} of the seeds take part in the request and were left out.` : ""), false);
  },
};

window.dash_clientside = Object.assign({}, window.dash_clientside, {
  ganatomyRewrite: {
    open(facts) {
      if (facts) requestAnimationFrame(() => {
        const root = document.getElementById("rewrite");
        if (root) rewritePage.open(root, facts).catch((error) => { root.textContent = `This browser keeps nothing for this page: ${error.message}`; });
      });
      return window.dash_clientside.no_update;
    },
  },
});

addEventListener("keydown", (event) => {
  const { root, work } = rewritePage;
  if (!root || !root.isConnected || !work || !work.now || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
  if (event.target.closest && event.target.closest("input[type=text], textarea")) return;
  event.preventDefault();
  if (event.shiftKey) work.redo();
  else work.undo();
});
