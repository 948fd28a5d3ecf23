// What the browser does itself: moving between pages, keys, pictures that follow a slider, the grid's view in the address.
"use strict";

const ganatomy = {
  // Go to an address of the dashboard without loading the page anew.
  visit(href) {
    const target = new URL(href, location.href);
    if (target.href === location.href) return;
    history.pushState({}, "", target.href);
    dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
    scrollTo(0, 0);
  },

  // -- the order in which units are walked through: that of the list in which one was clicked ------------------------

  remember(anchor) {
    const path = anchor.pathname;
    if (!path.startsWith("/unit/")) return;
    const grid = anchor.closest("#units-grid"), list = anchor.closest("[data-sequence]");
    if (!grid && !list) return;
    const paths = [];
    let name = "this view";
    if (grid) {
      dash_ag_grid.getApi("units-grid").forEachNodeAfterFilterAndSort((node) => paths.push(node.data.href));
    } else {
      list.querySelectorAll("a.unit-link").forEach((link) => paths.push(link.pathname));
      name = list.dataset.sequence;
    }
    const plain = paths.map((one) => new URL(one, location.href).pathname);
    sessionStorage.setItem("ganatomy-sequence", JSON.stringify({ paths: plain, from: location.pathname + location.search, name }));
  },

  sequence() {
    try {
      const kept = JSON.parse(sessionStorage.getItem("ganatomy-sequence"));
      const at = kept.paths.indexOf(location.pathname);
      return at < 0 ? null : { ...kept, at };
    } catch {
      return null;
    }
  },

  // Lead "previous" and "next" of a unit's page through the list that it was opened from.
  steps() {
    const place = document.getElementById("unit-place");
    if (!place) return;
    const found = ganatomy.sequence();
    place.replaceChildren();
    document.querySelectorAll(".unit-head .step").forEach((step) => {
      const forward = step.dataset.key === "ArrowRight";
      if (!found) return;
      const path = found.paths[found.at + (forward ? 1 : -1)];
      step.hidden = !path;
      if (!path) return;
      step.href = path;
      const [layer, unit] = path.split("/").slice(-2).map(decodeURIComponent);
      const other = layer === decodeURIComponent(location.pathname.split("/").at(-2)) ? unit : `${layer} · ${unit}`;
      step.textContent = forward ? `${other} ›` : `‹ ${other}`;
    });
    if (!found) return;
    const back = document.createElement("a");
    back.href = found.from;
    back.textContent = `${found.at + 1} of ${found.paths.length} in ${found.name}`;
    back.id = "unit-back";
    place.append(back);
  },

  // -- drawings and pictures -------------------------------------------------------------------------------------------

  // Put the drawing that each holder names into it. Only the last one asked for is shown, whatever comes when.
  async draw(holder) {
    const wanted = holder.dataset.svg;
    if (holder.drawn === wanted) return;
    holder.drawn = wanted;
    try {
      const answer = await fetch(wanted);
      const text = await answer.text();
      if (holder.drawn === wanted && answer.ok) holder.innerHTML = text;
    } catch { /* the server has ended: what is shown stays */ }
  },

  drawings() {
    document.querySelectorAll("[data-svg]").forEach(ganatomy.draw);
  },

  // Lead what saves a strip to the strip that is shown.
  pictures() {
    const level = (document.getElementById("tops") || {}).level, whole = document.getElementById("unit-whole");
    if (level === undefined) return;
    document.querySelectorAll("[data-picture]").forEach((link) => {
      const as = link.dataset.picture.startsWith("/tops/") && whole && whole.checked ? "?whole=1" : "";
      link.href = `${link.dataset.picture}/${level}.png${as}`;
    });
  },

  // Show an image in the elements of a holder once it is here; only the last one asked for is shown.
  async swap(holder, address) {
    if (!holder || holder.wanted === address) return;
    holder.wanted = address;
    const image = new Image();
    image.src = address;
    try { await image.decode(); } catch { return; }
    if (holder.wanted !== address) return;
    holder.querySelectorAll("img.masked").forEach((one) => { one.src = address; });
    holder.dataset.shown = address;
  },

  // -- saving ------------------------------------------------------------------------------------------------------------

  save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.dataset.plain = "";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  },

  async saveChart(button) {
    const section = button.closest("section");
    const chart = section.querySelector(".js-plotly-plot");
    if (!chart) return;
    const title = section.querySelector("h2").textContent.trim().toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-");
    const { width, height } = chart.getBoundingClientRect();
    const url = await Plotly.toImage(chart, { format: "svg", width: Math.round(width), height: Math.round(height) });
    const svg = decodeURIComponent(url.slice(url.indexOf(",") + 1));
    if (button.dataset.export === "svg") {
      ganatomy.save(new Blob([svg], { type: "image/svg+xml" }), `${title}.svg`);
      return;
    }
    const answer = await fetch("/pdf", { method: "POST", body: svg, headers: { "Content-Type": "image/svg+xml" } });
    if (answer.ok) ganatomy.save(await answer.blob(), `${title}.pdf`);
    else button.title = await answer.text();
  },
};

addEventListener("click", (event) => {
  const button = event.target.closest && event.target.closest("[data-export]");
  if (button) ganatomy.saveChart(button);
  if (event.defaultPrevented || event.button) return;
  const anchor = event.target.closest && event.target.closest("a[href]");
  if (!anchor || anchor.dataset.plain !== undefined || anchor.origin !== location.origin) return;
  ganatomy.remember(anchor);
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  if (anchor.target || anchor.hasAttribute("download") || anchor.getAttribute("href").startsWith("#")) return;
  event.preventDefault();
  ganatomy.visit(anchor.href);
});

// An element with data-key is clicked by that key, unless the key belongs to what has the focus.
const KEEPS_KEYS = "input:not([type=checkbox]), textarea, select, [contenteditable=true], [role=slider], [role=gridcell], [role=listbox], [role=radiogroup]";
addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
  if (event.target.closest && event.target.closest(KEEPS_KEYS)) return;
  const wanted = document.querySelector(`[data-key="${CSS.escape(event.key)}"]:not([hidden])`);
  if (!wanted) return;
  event.preventDefault();
  wanted.click();
});

addEventListener("change", (event) => {
  if (event.target.id === "unit-whole") {
    document.getElementById("tops").classList.toggle("unmasked", event.target.checked);
    ganatomy.pictures();
  }
});

// -- grids whose view is their address -----------------------------------------------------------------------------------

class Grid {
  // exact: columns whose filter "equals" has a word of its own in the address; keep: other words that stay as they are.
  constructor(id, exact, keep = []) {
    Object.assign(this, { id, exact, keep });
  }

  // The grid itself; undefined before there is one, and while one of a page that was left is all there is.
  get api() {
    try {
      const api = dash_ag_grid.getApi(this.id);
      return api && !api.isDestroyed() ? api : undefined;
    } catch {
      return undefined;
    }
  }

  // What the filter of a column wants exactly, "" if it wants anything else.
  value(model, name) {
    const filter = model[name];
    return filter && filter.type === "equals" && typeof filter.filter === "string" ? filter.filter : "";
  }

  // Filter columns exactly; "" takes a column's filter away.
  filter(wanted) {
    const model = { ...this.api.getFilterModel() };
    let changed = false;
    for (const [name, value] of Object.entries(wanted)) {
      if (this.value(model, name) === value) continue;
      changed = true;
      if (value) model[name] = { filterType: "text", type: "equals", filter: value };
      else delete model[name];
    }
    if (changed) this.api.setFilterModel(model);
  }

  // Put what the grid shows into the address: filters, and the columns it is sorted by, in their order.
  say(words = {}) {
    const query = new URLSearchParams(), now = new URLSearchParams(location.search), rest = { ...this.api.getFilterModel() };
    for (const name of this.keep) if (now.get(name)) query.set(name, now.get(name));
    for (const [name, word] of Object.entries(this.exact)) {
      const value = this.value(rest, name);
      if (!value) continue;
      query.set(word, value);
      delete rest[name];
    }
    for (const [name, value] of Object.entries(words)) if (value) query.set(name, value);
    const sorted = this.api.getColumnState().filter((c) => c.sort).sort((a, b) => a.sortIndex - b.sortIndex);
    if (sorted.length) query.set("sort", sorted.map((c) => `${c.colId}.${c.sort}`).join(","));
    if (Object.keys(rest).length) query.set("f", JSON.stringify(rest));
    const text = query.toString();
    history.replaceState(history.state, "", location.pathname + (text ? `?${text}` : ""));
  }

  // How many rows are shown, of how many.
  count(things) {
    let all = 0;
    this.api.forEachNode(() => { all += 1; });
    const shown = this.api.getDisplayedRowCount();
    return shown === all ? `${all} ${things}` : `${shown} of ${all} ${things}`;
  }
}

const units = new Grid("units-grid", { layer: "layer", concept: "concept", labelled: "labelled" });
const pairs = new Grid("compare-grid", { change: "only" }, ["layer", "with", "layer2", "by"]);

const none = () => window.dash_clientside.no_update;

window.dash_clientside = Object.assign({}, window.dash_clientside, {
  ganatomy: {
    // After a page has been put in place.
    arrived() {
      requestAnimationFrame(() => {
        const main = document.querySelector("main");
        const title = main && main.dataset.title;
        document.title = title ? `${title} · ganatomy` : "ganatomy";
        ganatomy.drawings();
        ganatomy.steps();
      });
      return none();
    },

    again: (done, times) => (done ? (times || 0) + 1 : none()),  // the page that was waited for can be shown

    go(href) {
      if (href) ganatomy.visit(href);
      return none();
    },

    // A click into a chart leads to what the point stands for.
    chartClicked(click, links) {
      if (!click) return none();
      const given = click.points[0].customdata;
      const href = typeof given === "string" ? given : given && links && links[given.join(",")];
      if (href) ganatomy.visit(href);
      return none();
    },

    unitLevel(level, data) {
      if (level === undefined || level === null || !data) return none();
      ganatomy.swap(document.getElementById("tops"), `${data.tops}/${level}.jpg?v=${data.v}`);
      ganatomy.swap(document.getElementById("bands"), `${data.bands}/${level}.jpg?v=${data.v}`);
      document.getElementById("tops").level = level;
      ganatomy.pictures();
      const histogram = document.getElementById("unit-histogram");
      if (histogram) {
        histogram.dataset.svg = `${data.drawing}/histogram.svg?bare=1&level=${level}&v=${data.v}`;
        ganatomy.draw(histogram);
      }
      document.querySelectorAll("[data-follows]").forEach((link) => {
        link.href = `${link.pathname}?level=${level}`;
      });
      document.querySelectorAll("[data-at]").forEach((cell) => {
        cell.textContent = data.at[cell.dataset.at][level][Number(cell.dataset.row)];
      });
      const query = new URLSearchParams(location.search);
      if (level === data.threshold) query.delete("level");
      else query.set("level", level);
      const text = query.toString();
      history.replaceState(history.state, "", location.pathname + (text ? `?${text}` : "") + location.hash);
      const inside = data.inside ? `, ${data.inside[level]} of ${data.concept}` : "";
      return `activation > ${data.levels[level]} · on in ${data.on[level]} of all pixels${inside}`;
    },

    // A control was moved: the grid filters accordingly.
    unitsControls(layer, concept, labelled, search) {
      if (!units.api) return none();
      units.api.setGridOption("quickFilterText", search || "");
      units.filter({ layer: layer || "", concept: concept || "", labelled: labelled ? "yes" : "" });
      units.search = search || "";
      units.say({ q: units.search });
      return none();
    },

    // The grid shows something else: the address, the count and the controls follow.
    unitsChanged(rows, _filters, _columns, view) {
      const [page, run] = location.pathname.split("/").slice(1).map(decodeURIComponent);
      if (!rows || !units.api) return none();  // it has not shown what its address asks for yet
      if (page !== "units" || run !== view.run) return none();  // the visitor has gone on to another page
      if (units.view !== view) {
        units.view = view;
        units.search = view.q;
      }
      const model = units.api.getFilterModel();
      units.say({ q: units.search });
      window.dash_clientside.set_props("units-layer", { value: units.value(model, "layer") });
      window.dash_clientside.set_props("units-concept", { value: units.value(model, "concept") || null });
      window.dash_clientside.set_props("units-labelled", { checked: units.value(model, "labelled") === "yes" });
      return units.count("units");
    },

    // The same of pairs: only those of one kind.
    pairsOnly(only) {
      if (!pairs.api) return none();
      pairs.filter({ change: only || "" });
      return none();
    },

    pairsChanged(rows, _filters, _columns, view) {
      const [page, run] = location.pathname.split("/").slice(1).map(decodeURIComponent);
      if (!rows || !pairs.api || page !== "compare" || run !== view) return none();
      pairs.say();
      window.dash_clientside.set_props("compare-only", { value: pairs.value(pairs.api.getFilterModel(), "change") || null });
      return pairs.count("pairs");
    },

    // A choice on the page of comparisons leads to its address.
    compare(a, layer, b, layer2, by) {
      const now = new URLSearchParams(location.search);
      const run = decodeURIComponent(location.pathname.split("/")[2] || "");
      const query = new URLSearchParams();
      if (a === run && layer) query.set("layer", layer);
      if (b) query.set("with", b);
      if (b === (now.get("with") || b) && layer2) query.set("layer2", layer2);
      if (by) query.set("by", by);
      if (now.get("only")) query.set("only", now.get("only"));
      if (now.get("sort")) query.set("sort", now.get("sort"));
      ganatomy.visit(`/compare/${encodeURIComponent(a)}?${query}`);
      return none();
    },

    generatorTyped(generator, who) {  // once no key has been struck for a while
      const turn = ganatomy.typed = (ganatomy.typed || 0) + 1;
      return new Promise((resolve) => {
        setTimeout(() => resolve(turn === ganatomy.typed ? { generator, who, turn } : none()), 300);
      });
    },

    noteChanged(tags, text, where, change) {
      if (!where || !Array.isArray(tags)) return none();
      const answered = !change || where.turn === change.turn;  // nothing is on its way
      const before = answered ? where.tags : change.tags;
      const same = tags.length === before.length && tags.every((tag) => before.includes(tag));
      if (answered && same && (text === where.note || (change && text === change.text))) return none();
      return {
        tags, text, turn: (change ? change.turn : where.turn) + 1,
        on: tags.filter((tag) => !before.includes(tag)), off: before.filter((tag) => !tags.includes(tag)),
      };
    },

    unitsCsv(clicks) {
      if (!clicks || !units.api) return none();
      const keys = ["layer", "unit", "concept", "category", "labelled", "iou", "chance", "d", "stderr", "ap", "tags", "note"];
      const run = location.pathname.split("/")[2];
      units.api.exportDataAsCsv({ fileName: `${decodeURIComponent(run)}-units.csv`, columnKeys: keys });
      return none();
    },
  },
});

// -- cells of grids ----------------------------------------------------------------------------------------------------

const cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
const element = (...parts) => React.createElement(...parts);

// Grids of pairs have two units a row: their fields begin with the side.
const of = (data, side, name) => (side ? data[side + name[0].toUpperCase() + name.slice(1)] : data[name]);

cells.Strip = ({ value, data, side }) => element("a", { href: of(data, side, "href"), className: "strip", tabIndex: -1 },
  element("img", { src: value, loading: "lazy", decoding: "async", alt: "" }));

cells.UnitLink = ({ value, data, side }) => element("a", { href: of(data, side, "href"), className: "num" }, value);

cells.ConceptBadge = ({ value, data, side }) => value
  ? element("a", { href: of(data, side, "conceptHref"), className: of(data, side, "labelled") === "yes" ? "badge" : "badge faint",
    style: { "--c": of(data, side, "colour") } }, value)
  : null;

cells.Change = ({ value, data }) => element("span", { className: "badge", style: { "--c": data.changeColour } }, value);

cells.Number = ({ value }) => {
  if (value === null || value === undefined) return element("span", { className: "quiet" }, "–");
  return value.toFixed(3).replace("-", "−");
};
