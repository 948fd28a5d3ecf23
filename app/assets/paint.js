// The Paint page: what its buttons and keys do. What is on it is in paint_layout.js, the work itself in paint_work.js,
// strokes in paint_brush.js.
"use strict";

class PaintPage {
  constructor(root, facts) {
    Object.assign(this, { root, facts, pictures: {}, changing: null, peeking: false });
    this.work = new PaintWork(facts, (what) => this.told(what));
  }

  async begin() {
    await this.work.load();
    paintLayout.build(this);
    const { tool } = this.work.now, { wanted } = this.facts;
    if (Object.keys(wanted).length) {  // what the address asks for; a reload then goes on from there
      if (wanted.seed !== undefined && /^\d{1,9}$/.test(wanted.seed)) this.work.now.start = { seed: Number(wanted.seed) };
      if (wanted.layer || wanted.units || wanted.concept) {
        Object.assign(tool, { concept: wanted.concept || "", layer: wanted.layer || "", units: wanted.units || "", count: "", brush: null });
      }
      history.replaceState(history.state, "", location.pathname);
    }
    this.controls();
    this.told("changed");
    if (tool.brush) this.work.warm();
    else this.takeBrush(Boolean(tool.units));
  }

  part(name) { return this.root.querySelector(`[data-part="${name}"]`); }
  say(text, trouble = false) {
    const says = this.part("says");
    says.textContent = text;
    says.classList.toggle("trouble", trouble);
  }

  // Do something that may fail; what is wrong is said in a line.
  async attempt(act) {
    try {
      return await act();
    } catch (error) {
      this.say(error.message, true);
      return undefined;
    }
  }

  // -- the brush and the image -------------------------------------------------------------------------------------------

  use(name, value) {
    const { tool } = this.work.now;
    if (name === "width") value = Math.min(60, Math.max(1, value));
    tool[name] = value;
    if (name === "concept") Object.assign(tool, value ? { layer: "", count: "", units: "" } : { count: "" });
    if (name === "layer") Object.assign(tool, { count: "", units: tool.concept ? "" : tool.units });
    this.controls();
    if (["concept", "layer", "count", "units"].includes(name)) this.takeBrush(name === "units" || !tool.concept);
    else if (name === "kind" || name === "put") this.mask();
    this.work.save();
  }

  // Ask what the brush is made of. What it was until then is no brush: a stroke must not be of other units than shown.
  async takeBrush(byUnits) {
    const { tool } = this.work.now, turn = (this.asked = (this.asked || 0) + 1);
    tool.brush = null;
    if (byUnits && !tool.units) return this.say("Choose a concept, or type units such as 3, 17, 40.");
    return this.attempt(async () => {
      const brush = await this.work.brush(byUnits);
      if (turn !== this.asked) return;
      Object.assign(tool, { brush, layer: brush.layer, units: brush.units.join(", "), count: byUnits ? "" : String(brush.units.length) });
      this.say("");
      this.controls();
      this.mask();
      this.work.warm();
      await this.work.save();
    });
  }

  controls() {
    const { now } = this.work, { tool } = now, set = (name, value) => { const one = this.part(name); if (one && one !== document.activeElement) one.value = value; };
    for (const name of ["concept", "count", "units", "put", "strength", "width"]) set(name, tool[name]);
    set("layer", tool.layer || this.facts.layers[0]);
    set("seed", now.start.seed ?? "");
    for (const kind of ["erase", "draw", "restore"]) this.part(`kind-${kind}`).setAttribute("aria-pressed", String(tool.kind === kind));
    for (const name of ["strength", "width"]) this.part(`${name}-says`).textContent = name === "width" ? `${tool.width}%` : tool.strength.toFixed(2);
    this.part("put").querySelector("[value=mean]").disabled = Boolean(tool.brush && !tool.brush.values.mean);
    const latent = this.part("latent");
    if (latent) {
      const options = now.latents.map((_, index) => [index, `w ${index}`]);
      latent.replaceChildren(...[["", now.latents.length ? "none" : "none opened"], ...options].map(([value, text]) => paintParts.make("option", { value }, [text])));
      latent.value = now.start.w ?? "";
    }
    this.root.querySelectorAll(".pick").forEach((pick) => pick.setAttribute("aria-pressed", String(pick.dataset.part === `seed-${now.start.seed}`)));
    Object.assign(this.brush, { width: tool.width, away: tool.kind === "restore" });
  }

  // Show the brush the mask that its next stroke goes on with.
  mask() {
    const { now } = this.work, edit = this.work.edit(), goesOn = now.tool.kind === "restore" ? edit && edit.kind !== "file" : this.work.fits();
    this.brush.load(!goesOn ? null : edit.mask === null ? "all" : now.masks[edit.mask]);
  }

  typedSeed(text) {
    if (/^\s*\d{1,10}\s*$/.test(text)) return this.go({ seed: Number(text) });
    return this.say("expected a seed such as 17", true);
  }

  go(start) {
    this.work.now.start = start;
    this.say("");
    this.controls();
    this.refresh();
    this.work.save();
  }

  // -- strokes and edits -------------------------------------------------------------------------------------------------

  begun() {
    const { tool } = this.work.now, edit = this.work.edit();
    if (tool.kind === "restore" ? edit && edit.kind !== "file" : tool.brush) return true;
    this.say(tool.kind === "restore" ? "Choose an edit first: its name, in the list." : "Say first what the brush is made of.", true);
    return false;
  }

  ended() {
    const data = this.brush.data(), fits = this.work.now.tool.kind === "restore" || this.work.fits();
    this.work.change((now) => {
      const edit = fits && now.edits.find((one) => one.id === now.current);
      if (edit && !data) {
        Object.assign(now, { edits: now.edits.filter((one) => one !== edit), current: null });
      } else if (edit) {
        edit.mask = this.work.mask(data);
      } else if (data) {
        const made = this.work.made(this.work.mask(data));
        Object.assign(now, { edits: [...now.edits, made], current: made.id });
      }
    });
  }

  everywhere() {
    if (this.work.now.tool.kind === "restore" || !this.work.now.tool.brush) return this.say("Choose to erase or to draw, and what.", true);
    return this.work.change((now) => {
      const made = this.work.made(null);
      Object.assign(now, { edits: [...now.edits, made], current: made.id });
    });
  }

  // Go on with an edit: the brush becomes the one that made it.
  choose(id) {
    const { now } = this.work, edit = now.edits.find((one) => one.id === id);
    now.current = edit ? id : null;
    if (edit && edit.kind !== "file") {
      const values = { high: edit.values, mean: null };
      const brush = { layer: edit.layer, units: edit.units, name: edit.name, values: edit.values ? values : (now.tool.brush || { values: {} }).values };
      Object.assign(now.tool, { kind: edit.kind, layer: edit.layer, units: edit.units.join(", "), concept: "", count: "", strength: edit.strength });
      if (edit.values) Object.assign(now.tool, { brush, put: "high" });
      else this.takeBrush(true);
    }
    this.controls();
    this.list();
    this.mask();
    this.work.save();
  }

  told(what) {
    if (what === "unkept") this.say("This browser keeps nothing: save the recipe before you leave.", true);
    if (what !== "changed") return;
    this.say("");
    this.list();
    this.mask();
    this.refresh();
  }

  list() {
    const { now } = this.work, focus = document.activeElement && document.activeElement.dataset.part;
    this.part("undo").disabled = !now.past.length;
    this.part("redo").disabled = !now.future.length;
    const nothing = paintParts.make("li", { className: "quiet" }, ["Nothing yet: paint on the image."]);
    this.part("edits").replaceChildren(...(now.edits.length ? now.edits.map((edit) => paintLayout.edit(this, edit)) : [nothing]));
    if (focus && this.part(focus) && document.activeElement === document.body) this.part(focus).focus();
  }

  alter(id, act) {
    return this.work.change((now) => act(now.edits.find((one) => one.id === id)));
  }

  // -- what is seen ------------------------------------------------------------------------------------------------------

  async refresh() {
    this.root.classList.add("waiting");
    try {
      const answer = await this.work.shown();
      if (answer) await this.put(answer, this.work.turn);
      if (answer && this.refused) this.say("");
      if (answer) this.refused = false;
    } catch (error) {
      this.refused = true;
      this.root.classList.remove("waiting");
      this.say(error.message, true);
    }
  }

  async put(answer, turn) {
    const images = await Promise.all(["before", "after", "difference"].map(async (row) => {
      const image = new Image();
      image.src = answer.rows[row];
      await image.decode();
      return [row, image];
    }));
    if (turn !== this.work.turn) return;  // while it was unpacked, another was asked for
    for (const [row, image] of images) {
      this.pictures[row] = image;
      this.part(row).src = image.src;
    }
    this.part("change").textContent = `mean change ${answer.change}`;
    this.root.classList.remove("waiting");
    this.peek(this.peeking);
  }

  peek(on) {
    this.peeking = on;
    if (this.pictures.after) this.brush.show(this.pictures[on ? "before" : "after"]);
  }

  // -- files -------------------------------------------------------------------------------------------------------------

  openRecipe(file) {
    return this.attempt(async () => {
      const { edits } = await this.work.post("open", file);
      await this.work.change((now) => {
        now.edits = edits.map((edit) => ({
          ...edit, id: Math.random().toString(36).slice(2), on: true, mask: edit.mask === null ? null : this.work.mask(edit.mask) }));
        now.current = null;
      });
      this.say(`${edits.length} edit${edits.length === 1 ? "" : "s"} from ${file.name}; undo brings back what was there.`);
    });
  }

  openLatents(file) {
    return this.attempt(async () => {
      this.work.now.latents = (await this.work.post("latents", file)).latents;
      this.go({ w: 0 });
    });
  }

  async exportAll() {
    const { work } = this, question = work.question(), { token, why } = await work.post("checkpoint", question);
    if (!token) {
      await work.saveAs("bundle", question);
      return this.say(`Saved as a bundle, which opens as a generator with these edits: as weights they would not be exact (${why}).`);
    }
    for (;;) {
      const job = await work.json(`checkpoint/${token}`);
      if (job.state === "done") break;
      if (job.state !== "waiting" && job.state !== "running") throw new Error(job.error || `The export was ${job.state}.`);
      this.say(job.total ? `Comparing the checkpoint with the edits: ${job.done} of ${job.total} images.` : "Writing the checkpoint.");
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    await work.saveAs(`checkpoint/${token}/file`);
    return this.say("Saved as a checkpoint of the generator's own kind: it draws this without any edits.");
  }
}

const paint = {
  page: null,

  here: () => (paint.page && paint.page.brush && paint.page.root.isConnected ? paint.page : null),

  // Undo and redo from anywhere but a text; B shows what was before.
  key(event) {
    const page = paint.here(), typing = event.target.closest && event.target.closest("input[type=text], textarea");
    if (!page || typing || event.altKey) return;
    const command = event.ctrlKey || event.metaKey, key = event.key.toLowerCase();
    if (command && (key === "y" || (key === "z" && event.shiftKey))) page.work.redo();
    else if (command && key === "z") page.work.undo();
    else if (!command && key === "b") return page.peek(event.type === "keydown");
    else return undefined;
    event.preventDefault();
    return undefined;
  },

  // Another tab of this browser has painted on the same run.
  async elsewhere({ data }) {
    const page = paint.here();
    if (!page || data !== page.facts.id || page.brush.painting) return;
    await page.work.load();
    page.controls();
    page.told("changed");
  },
};

addEventListener("keydown", paint.key);
addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "b") paint.key(event); });

window.dash_clientside = Object.assign({}, window.dash_clientside, {
  ganatomyPaint: {
    open(facts) {
      const root = document.getElementById("paint");
      if (facts && root && !(paint.page && paint.page.root === root)) {
        paint.page = new PaintPage(root, facts);
        paint.page.begin();
        if (paintStore.channel) paintStore.channel.onmessage = paint.elsewhere;
      }
      return window.dash_clientside.no_update;
    },
  },
});
