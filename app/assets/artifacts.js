// Tags of the Artifacts page. They are changed here, so that two quick clicks cannot overtake each other.
"use strict";

let artifactClicks = {}; // by seed, of the pictures that are shown

window.dash_clientside = window.dash_clientside || {};
window.dash_clientside.ganatomyArtifacts = {
  // A click on a picture: untagged, broken, fine, untagged. Tags lie in the browser's own storage, by seed. Clicks are
  // counted, for two quick ones may come as one call.
  tag(clicks, tiles, kept) {
    const work = (kept && kept[0]) || {}, tags = { ...(work.tags || {}) }, seen = {};
    const next = { undefined: "broken", broken: "fine" };
    let changed = false;
    tiles.forEach(({ seed }, place) => {
      seen[seed] = clicks[place] || 0;
      for (let click = artifactClicks[seed] || 0; click < seen[seed]; click += 1) {
        const tag = next[tags[seed]];
        if (tag) tags[seed] = tag;
        else delete tags[seed];
        changed = true;
      }
    });
    artifactClicks = seen; // of other pictures they begin anew when these are shown
    return changed ? [{ ...work, tags }] : window.dash_clientside.no_update;
  },

  // How each picture of the sheet looks, and how many of all have which tag.
  paint(_changed, _sheet, kept, tiles) {
    const tags = ((kept && kept[0]) || {}).tags || {};
    const count = (kind) => Object.values(tags).filter((tag) => tag === kind).length;
    const looks = tiles.map((tile) => `pick tagged-${tags[tile.seed] || "not"}`);
    const says = tiles.map((tile) => `seed ${tile.seed}, ${tags[tile.seed] || "not tagged"}`);
    return [looks, says, `${count("broken")} broken, ${count("fine")} fine`];
  },

  // What was changed beside the tags: layer, ranking, how many units.
  keep(layer, strategy, count, spared, kept) {
    const work = (kept && kept[0]) || {};
    const now = { ...work, layer, strategy, count, spared };
    return JSON.stringify(now) === JSON.stringify(work) ? window.dash_clientside.no_update : [now];
  },
};
