// A concept of one's own: which images it is looked for in, and where it is in them. The work is in the browser's storage.
"use strict";

let ownClicks = {}; // by seed, of the pictures that are shown
const ownWork = (kept) => (kept && kept[0]) || {};

const ownEditor = {
  editor: null,
  wanted: null,

  told({ chosen = [], masks = {} }) {
    const root = document.getElementById("own-where");
    if (!root) return;
    if (!this.editor || this.editor.root !== root) {
      const asks = "Where is it? An image without any mark says where it is not.";
      this.editor = new MarkEditor(root, asks, (seed, mask) => {
        window.dash_clientside.set_props("own-news", { data: { masks: { [seed]: mask }, at: Date.now() } });
      });
    }
    this.editor.told(chosen, masks, this.wanted);
    this.wanted = null;
  },
};

window.dash_clientside = window.dash_clientside || {};
window.dash_clientside.ganatomyOwn = {
  // A click on a picture takes it, or leaves it again; its mask is kept in case it comes back.
  choose(clicks, tiles, kept) {
    const work = ownWork(kept), seen = {};
    let chosen = work.chosen || [];
    const before = chosen.join();
    tiles.forEach(({ seed }, place) => {
      seen[seed] = clicks[place] || 0;
      for (let click = ownClicks[seed] || 0; click < seen[seed]; click += 1) {
        const there = chosen.includes(seed);
        chosen = there ? chosen.filter((one) => one !== seed) : [...chosen, seed];
        if (!there) ownEditor.wanted = seed;
      }
    });
    ownClicks = seen;
    return chosen.join() === before ? window.dash_clientside.no_update : [{ ...work, chosen }];
  },

  keep(name, layer, kept) {
    const work = ownWork(kept), now = { ...work, name: name ?? "", layer: layer ?? null };
    return JSON.stringify(now) === JSON.stringify(work) ? window.dash_clientside.no_update : [now];
  },

  // `at` is when: what is the same as the last time would be no news to Dash.
  merge(news, kept) {
    const work = ownWork(kept), all = { ...(work.masks || {}), ...(news || {}).masks };
    for (const [seed, mask] of Object.entries(all)) if (!mask) delete all[seed];
    return news ? [{ ...work, masks: all }] : window.dash_clientside.no_update;
  },

  // How the pictures of the sheet look, and how many are chosen.
  paint(_work, _sheet, kept, tiles) {
    const work = ownWork(kept), { chosen = [], masks = {} } = work;
    const look = (seed) => `pick${chosen.includes(seed) ? " chosen" : ""}${chosen.includes(seed) && masks[seed] ? " marked" : ""}`;
    ownEditor.told(work);
    return [
      tiles.map(({ seed }) => look(seed)), tiles.map(({ seed }) => `seed ${seed}, ${chosen.includes(seed) ? "chosen" : "not chosen"}`),
      `${chosen.length} chosen, ${chosen.filter((seed) => masks[seed]).length} marked`,
    ];
  },

  // What the fields hold when the page is opened; after that they are the visitor's.
  fill(kept, filled) {
    const { name, layer } = ownWork(kept), none = window.dash_clientside.no_update;
    return filled ? [none, none, none] : [name || none, layer || none, true];
  },
};
