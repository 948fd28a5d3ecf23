// The Rewrite page: copy, paste, context; what it means elsewhere; solving; the edits; what they do to unseen images.
"use strict";

const REWRITE_POLL = 350;  // milliseconds between two looks at a job

const rewritePage = {
  // Show the page in its element. What was done before is there again.
  async open(root, facts) {
    if (rewriteStore.channel) rewriteStore.channel.onmessage = rewritePage.elsewhere;
    const work = new RewriteWork(facts, (what) => rewritePage.told(what));
    Object.assign(rewritePage, { root, facts, work, parts: {}, shownSeed: undefined, stackShown: undefined });
    await work.load();
    if (!root.isConnected) return;
    root.replaceChildren(...rewriteParts.build(rewritePage));
    rewritePage.refresh();
    await rewritePage.seed(work.now.fields.seed);
    Object.keys(work.now.jobs).forEach(rewritePage.follow);
    root.dataset.ready = "yes";
  },

  // Another tab of this browser has changed the same work.
  async elsewhere({ data }) {
    const { root, work } = rewritePage;
    if (!root.isConnected || data !== work.facts.id) return;
    await work.load();
    rewritePage.refresh();
  },

  told(what) {
    if (what === "changed") rewritePage.refresh();
    else if (what === "saved") rewritePage.root.dataset.saved = rewritePage.work.saved;
    else rewritePage.say("says-edits", "This browser keeps nothing: save the request and the edits before you leave.");
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

  typed(name, value) {
    rewritePage.work.now.fields[name] = value;
    rewritePage.work.save();
    if (name === "seed") rewritePage.seed(value);
    if (name === "seeds") rewritePage.shown();
    rewritePage.matches();
  },

  // -- marking -------------------------------------------------------------------------------------------------------------

  tool(tool) {
    rewritePage.painter.tool = tool;
    for (const other of ["brush", "box", "erase"]) rewritePage.parts[`tool-${other}`].ariaPressed = String(other === tool);
    rewritePage.painter.draw();
  },

  further(step) {
    const { seed } = rewritePage.parts;
    seed.value = String(Math.max(0, (Number.parseInt(seed.value, 10) || 0) + step));
    rewritePage.typed("seed", seed.value);
  },

  // Show the image of a seed; what was marked in another one is not kept.
  seed(text) {
    return rewritePage.attempt("says-request", async () => {
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
    const { work, painter } = rewritePage, { concept, seed } = work.now.fields;
    if (!concept) throw new Error("Choose a concept first.");
    const path = `where/${Number(seed)}?concept=${encodeURIComponent(concept)}&edits=${work.stack(false)}`;
    const address = URL.createObjectURL(await (await work.fetch(path)).blob());
    await painter.load(address, true);
    URL.revokeObjectURL(address);
    if (!painter.data()) {
      painter.clear();
      throw new Error(`The segmenter calls nothing ${concept} in this image.`);
    }
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
      const { work } = rewritePage, { name, paste } = work.now.request;
      if (!paste.length) throw new Error("There is nothing to save yet: a request pastes somewhere.");
      const content = `${JSON.stringify(work.asFile(), null, 1)}\n`;
      const file = (name || "request").replace(/[^\p{L}\p{N}]+/gu, "-");
      ganatomy.save(new Blob([content], { type: "application/json" }), `${file}.json`);
    });
  },

  async load(file) {
    const { work } = rewritePage, given = await work.post("request", await file.text());
    const context = rewritePage.grouped(given.request.context);
    await work.change((now) => { now.request = { ...given.request, context }; });
    if (given.remark) rewritePage.say("says-request", given.remark);
  },

  // Regions of one concept in several images, one after the other, as one.
  grouped(regions) {
    return regions.reduce((all, region) => {
      const last = all.at(-1);
      if (region.mask || !region.concept) return [...all, region];
      if (!last || last.mask || last.concept !== region.concept) return [...all, { seeds: [region.seed], concept: region.concept }];
      return [...all.slice(0, -1), { seeds: [...last.seeds, region.seed], concept: last.concept }];
    }, []);
  },

  bring: async (file) => rewritePage.work.add(await file.arrayBuffer(), { name: file.name.replace(/\.safetensors$/, "") }),

  download(kind) {
    return rewritePage.attempt("says-edits", async () => {
      const { work } = rewritePage;
      if (!work.stack()) throw new Error("No edit is switched on.");
      const response = await work.fetch(`${kind}?edits=${work.stack()}`);
      const name = (response.headers.get("Content-Disposition") || "").match(/filename="?([^";]+)/);
      ganatomy.save(await response.blob(), name ? name[1] : kind);
    });
  },

  // -- jobs ----------------------------------------------------------------------------------------------------------------

  place: (what) => ({ match: "says-match", solve: "says-solve", judge: "says-judge", export: "says-edits" })[what],

  begin(what) {
    return rewritePage.attempt(rewritePage.place(what), async () => {
      if (rewritePage.work.now.jobs[what]) return;
      await rewritePage.work.begin(what);
      rewritePage.follow(what);
    });
  },

  cancel: (what) => rewritePage.attempt(rewritePage.place(what), async () => {
    const token = rewritePage.work.now.jobs[what];
    if (token) await rewritePage.work.post(`job/${token}/cancel`);
  }),

  // Look at a job until it has ended, then show what came of it; also one that was begun before the page was reloaded.
  async follow(what) {
    const { work, root, parts } = rewritePage, token = work.now.jobs[what], meter = parts[`meter-${what}`];
    const wanted = () => root.isConnected && rewritePage.work === work && work.now.jobs[what] === token;
    while (wanted()) {
      const stands = await work.json(`job/${token}`).catch((error) => ({ state: "failed", error: error.message }));
      if (["waiting", "running"].includes(stands.state)) {
        rewriteParts.working(rewritePage, meter, what, stands);
        await new Promise((resolve) => { setTimeout(resolve, REWRITE_POLL); });
        continue;
      }
      if (!wanted()) return;
      meter.hidden = true;
      work.ended(what);
      await rewritePage.attempt(rewritePage.place(what), async () => {
        if (stands.state === "failed") throw new Error(stands.error);
        if (stands.state === "cancelled") rewritePage.say(rewritePage.place(what), "Cancelled.", false);
        else await rewritePage.came[what](stands.result);
      });
      await work.save();
    }
  },

  // What came of a job that was done.
  came: {
    match(result) {
      rewritePage.work.now.match = result;
      rewritePage.matches();
    },

    judge(result) {
      rewritePage.work.now.judged = result;
      rewritePage.judged();
    },

    async export(result) {
      const response = await rewritePage.work.fetch(`export/${result.file}`);
      ganatomy.save(await response.blob(), result.name);
      rewritePage.say("says-edits", `${result.name} was compared with the edits, and is saved.`, false);
    },

    async solve({ key, summary, warnings }) {
      const { work } = rewritePage, data = await (await work.fetch(`edits/${key}`)).arrayBuffer();
      await work.add(data, { name: summary.name || `a rule of ${summary.observed}`, draft: true, warnings });
      rewritePage.say("says-solve", `Solved: ${rewriteParts.numbers(summary)}. ${warnings.join(" ")}`, warnings.length > 0);
    },
  },

  // -- parts that follow the work --------------------------------------------------------------------------------------------

  refresh() {
    const { work, parts, root } = rewritePage;
    const focused = root.contains(document.activeElement) && document.activeElement.dataset.focus;
    rewritePage.regions();
    parts.edits.replaceChildren(...work.now.edits.map((edit, index) => rewriteParts.edit(rewritePage, edit, index)));
    if (!work.now.edits.length) parts.edits.append(rewriteParts.made("li", { className: "quiet" }, "No edit yet."));
    parts.undo.disabled = !work.now.past.length;
    parts.redo.disabled = !work.now.future.length;
    if (focused) root.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
    rewritePage.matches();
    rewritePage.judged();
    rewritePage.shown();
    const kept = work.stack(false);  // the image under the brush has the edits that are kept
    if (rewritePage.stackShown !== kept && rewritePage.shownSeed !== undefined) rewritePage.seed(work.now.fields.seed);
    rewritePage.stackShown = kept;
    root.dataset.edits = work.stack();
  },

  regions() {
    const { parts, work } = rewritePage, { goal, name, copy, paste, context } = work.now.request;
    parts.goal.value = goal;
    parts.name.value = name;
    const none = {
      copy: goal === "erase" ? "nothing is copied" : "nothing yet", paste: "nothing yet",
      context: "none: what is pasted into says which places are meant",
    };
    for (const [kind, listed] of Object.entries({ copy: copy ? [copy] : [], paste, context })) {
      const thumbs = listed.map((region, index) => rewriteParts.thumb(rewritePage, kind, region, index));
      parts[kind].replaceChildren(...(thumbs.length ? thumbs : [rewriteParts.made("span", { className: "quiet" }, none[kind])]));
    }
  },

  matches() {
    const { parts, work } = rewritePage, found = work.now.match;
    parts.matches.classList.toggle("stale", Boolean(found) && work.now.abouts.match !== work.about("match"));
    if (!found || parts.matches.match === found) return;
    parts.matches.match = found;
    parts.matches.replaceChildren(...rewriteParts.matches(found));
    rewritePage.say("says-match", `At ${found.layer} the context is meant ${found.context.toFixed(1)} times as strongly as is usual. ` +
      "Below each image: its strongest place, as a share of that.", found.context < 1.5);
  },

  judged() {
    const { parts, work } = rewritePage, found = work.now.judged;
    if (!found || !parts.table) return;
    parts.table.classList.toggle("stale", work.now.abouts.judge !== work.about("judge"));
    if (parts.table.judged === found) return;
    parts.table.judged = found;
    parts.table.hidden = false;
    parts.table.replaceChildren(rewriteParts.table(found));
    const left = found.left_out ? ` ${found.left_out} of the seeds take part in the request and were left out.` : "";
    rewritePage.say("says-judge", found.told + left, false);
  },

  // Images before and after; of several questions on their way only the last is shown.
  async shown() {
    const { work, parts } = rewritePage, seeds = work.now.fields.seeds.trim(), edits = work.stack();
    const wanted = `${seeds}|${edits}`;
    if (parts.shown.wanted === wanted) return;
    parts.shown.wanted = wanted;
    const query = new URLSearchParams({ seeds, edits, who: work.who, turn: ++work.turn });
    await rewritePage.attempt("says-shown", async () => {
      try {
        const found = await work.json(`shown?${query}`);
        if (!found || parts.shown.wanted !== wanted) return;
        parts.shown.style.setProperty("--n", found.seeds.length);
        parts.shown.replaceChildren(...rewriteParts.rows(found));
        parts.shown.dataset.shown = wanted;
      } catch (error) {
        if (parts.shown.wanted === wanted) parts.shown.wanted = null;  // it may be asked for again
        throw error;
      }
    });
  },
};

window.dash_clientside = Object.assign({}, window.dash_clientside, {
  ganatomyRewrite: {
    open(facts) {
      if (facts) requestAnimationFrame(() => {
        const root = document.getElementById("rewrite");
        if (root) rewritePage.open(root, facts).catch((error) => { root.textContent = `This page cannot be shown: ${error.message}`; });
      });
      return window.dash_clientside.no_update;
    },
  },
});

addEventListener("keydown", (event) => {
  const { root, work } = rewritePage;
  if (!root || !root.isConnected || !work.now || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
  if (event.target.closest && event.target.closest("input[type=text], textarea")) return;
  event.preventDefault();
  if (event.shiftKey) work.redo();
  else work.undo();
});
