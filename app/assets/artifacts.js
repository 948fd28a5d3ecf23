// The Artifacts page: a visitor's work, which is changed here and nowhere else. What the server finds comes as news, of
// which is taken what is new into the work as it is then: so no late answer undoes what was done meanwhile.
"use strict";

const ARTIFACT_FILE = 4e6; // characters of a request, BODY_BYTES of the server less what goes with it
let artifactClicks = {}; // by seed, of the pictures that are shown
let spareClicks = {}; // by unit

const artifactWork = (kept) => (kept && kept[0]) || {};
const artifactSame = (one, other) => JSON.stringify(one ?? null) === JSON.stringify(other ?? null);
const artifactUnits = (text) => (text || "").split(/[\s,]+/).filter(Boolean);

window.dash_clientside = window.dash_clientside || {};
window.dash_clientside.ganatomyArtifacts = {
  // A click on a picture: untagged, broken, fine, untagged. Tags lie in the browser's own storage, by seed. Clicks are
  // counted, for two quick ones may come as one call.
  tag(clicks, tiles, kept) {
    const work = artifactWork(kept), tags = { ...(work.tags || {}) }, seen = {};
    const next = { undefined: "broken", broken: "fine" };
    let changed = false;
    tiles.forEach(({ seed }, place) => {
      seen[seed] = clicks[place] || 0;
      for (let click = artifactClicks[seed] || 0; click < seen[seed]; click += 1) {
        const tag = next[tags[seed]];
        if (tag) tags[seed] = tag;
        else delete tags[seed];
        if (tag === "broken") artifactWhere.wanted = seed;
        changed = true;
      }
    });
    artifactClicks = seen; // of other pictures they begin anew when these are shown
    return changed ? [{ ...work, tags }] : window.dash_clientside.no_update;
  },

  // A file of tags goes to the server, if it takes files as large; then the same file may be opened once more.
  brought(content, name) {
    const none = window.dash_clientside.no_update;
    if (!content) return [none, none, none];
    if (content.length > ARTIFACT_FILE) return [none, `${name} is larger than the dashboard takes; make its regions smaller, or mark fewer`, null];
    return [{ content, name, at: Date.now() }, "", null];
  },

  // How each picture of the sheet looks, and how many of all have which tag.
  paint(_changed, _sheet, kept, tiles) {
    const { tags = {}, regions = {} } = artifactWork(kept);
    const count = (kind) => Object.values(tags).filter((tag) => tag === kind).length;
    const marked = (seed) => tags[seed] === "broken" && regions[seed];
    const looks = tiles.map(({ seed }) => `pick tagged-${tags[seed] || "not"}${marked(seed) ? " marked" : ""}`);
    const says = tiles.map(({ seed }) => `seed ${seed}, ${tags[seed] || "not tagged"}${marked(seed) ? ", marked" : ""}`);
    artifactWhere.told(tags, regions);
    return [looks, says, `${count("broken")} broken, ${count("fine")} fine`];
  },

  // What was changed beside the tags: layer, ranking, how many units.
  keep(layer, strategy, count, spared, reference, images, extractor, kept) {
    const work = { ...artifactWork(kept) }, fields = { layer, strategy, count, spared, reference, images, extractor };
    const changed = Object.keys(fields).filter((name) => !artifactSame(fields[name], work[name]));
    for (const name of changed) work[name] = fields[name] ?? null; // an undefined one would never equal what is stored
    return changed.length ? [work] : window.dash_clientside.no_update;
  },

  // Take news over. `fields` are in the place of what was there, `regions` by seed beside the others; `ended` is a job:
  // what it found is of no use if another was begun meanwhile, or if it was told before. `at` is when: what is the same
  // as the last time would be no news to Dash.
  merge(news, kept) {
    const work = { ...artifactWork(kept) };
    if (!news || ("ended" in news && work.job !== news.ended)) return window.dash_clientside.no_update;
    if ("ended" in news) delete work.job;
    Object.assign(work, news.fields || {});
    if (news.regions) work.regions = { ...(work.regions || {}), ...news.regions };
    for (const [seed, region] of Object.entries(work.regions || {})) if (!region) delete work.regions[seed];
    return [work];
  },

  // The parts of the work that the server is told of: what is chosen, and which job is waited for.
  split(kept, choice, job) {
    const { tags, regions, job: number, token, ...rest } = artifactWork(kept), none = window.dash_clientside.no_update;
    const now = number === undefined || number === null ? null : { job: number, token };
    const waits = now !== null;
    return [artifactSame(rest, choice) && choice ? none : rest, artifactSame(now, job) ? none : now, !waits, !waits];
  },

  // A click beside a suspect: it is spared, or not any more.
  spare(clicks, units, text) {
    let spared = artifactUnits(text);
    const before = spared.join();
    units.forEach(({ unit }, place) => {
      const now = clicks[place] || 0, seen = spareClicks[unit] || 0, name = String(unit);
      if (now > seen) spared = spared.includes(name) ? spared.filter((one) => one !== name) : [...spared, name];
      spareClicks[unit] = now;
    });
    return spared.join() === before ? window.dash_clientside.no_update : spared.join(", ");
  },

  mark(text, _suspects, units) {
    const spared = artifactUnits(text), is = ({ unit }) => spared.includes(String(unit));
    return [units.map((one) => (is(one) ? "spared" : "spare")), units.map((one) => String(is(one)))];
  },
};
