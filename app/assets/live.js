// With and without a unit: rows of pictures that follow a slider and the seeds; and the keys that step through seeds.
"use strict";

const live = {
  who: Math.random().toString(36).slice(2) + Math.random().toString(36).slice(2),  // this page, among all that ask
  turn: 0,
  asked: null,  // to take back what is no longer wanted

  element: (name) => document.getElementById(`live-${name}`),

  // What each row is to show now: a row whose key is another than the one it shows has to be asked for.
  keys(where, seeds, without, level) {
    const images = `${where.address}|${where.run}|${seeds}`;
    return {
      before: images, after: `${images}|${without}`, difference: `${images}|${without}`, where: `${images}|${level}`,
    };
  },

  async show(where, seeds, without, level) {
    const keys = live.keys(where, seeds, without, level);
    const rows = Object.keys(keys).filter((row) => live.element(row) && live.element(row).dataset.key !== keys[row]);
    if (live.asked) live.asked.abort();
    live.asked = null;
    if (!rows.length) return live.say("");
    const turn = ++live.turn, asked = live.asked = new AbortController();
    const query = new URLSearchParams({ seeds, without, level, rows: rows.join(","), who: live.who, turn });
    document.getElementById("live-rows").classList.add("waiting");
    let answer;
    try {
      const response = await fetch(`${where.address}?${query}`, { signal: asked.signal });
      if (response.status === 204 || turn !== live.turn) return undefined;  // a later turn is on its way
      answer = await response.json();
    } catch (error) {
      if (turn === live.turn) live.say(error.name === "AbortError" ? "" : "The dashboard does not answer.");
      return undefined;
    }
    if (turn !== live.turn) return undefined;
    live.asked = null;
    if (answer.error) return live.say(answer.error);
    for (const [row, source] of Object.entries(answer.rows)) {
      const image = live.element(row);
      if (!image) continue;
      image.src = source;
      image.dataset.key = keys[row];
      image.style.setProperty("--n", answer.seeds.length);
    }
    live.names(answer);
    const file = live.element("png");
    if (!file) return undefined;  // the visitor has gone on to another page
    file.href = `${where.address}.png?${new URLSearchParams({ seeds, without, level })}`;
    file.hidden = false;
    return live.say("");
  },

  say(text) {
    const says = live.element("says"), rows = document.getElementById("live-rows");
    if (says) says.textContent = text;
    if (rows) {
      rows.classList.remove("waiting");
      rows.classList.toggle("stale", Boolean(text));
    }
  },

  names(answer) {
    const cells = answer.names.map((name, index) => {
      const cell = document.createElement("span");
      cell.append(name);
      const change = document.createElement("small");
      change.textContent = ` ${answer.change[index]}`;
      change.title = "mean change of a pixel";
      cell.append(change);
      return cell;
    });
    const holder = live.element("names");
    if (!holder) return;
    holder.style.setProperty("--n", cells.length);
    holder.replaceChildren(...cells);
  },

  // The same number of seeds further on; the text says which, as people typed it.
  moved(text, direction) {
    const parts = (text || "").trim().split(/[,;\s]+/);
    const seeds = parts.flatMap((part) => {
      const found = part.match(/^(\d+)(?:([:-])(\d+))?$/);
      if (!found) return [NaN];
      const first = Number(found[1]), stop = found[2] ? Number(found[3]) + (found[2] === "-") : first + 1;
      return Array.from({ length: Math.max(0, Math.min(100, stop - first)) }, (_, index) => first + index);
    });
    if (!seeds.length || seeds.some(Number.isNaN)) return window.dash_clientside.no_update;
    const step = Math.max(direction * seeds.length, -Math.min(...seeds));
    if (!step) return window.dash_clientside.no_update;
    return parts.map((part) => part.replace(/\d+/g, (number) => String(Number(number) + step))).join(", ");
  },

  // A reload, or a friend who is sent the address, sees the same.
  address(seeds, without, first) {
    const query = new URLSearchParams(location.search);
    for (const [name, value, usual] of [["seeds", seeds, first], ["without", without, "1"]]) {
      if (value === usual) query.delete(name);
      else query.set(name, value);
    }
    const text = query.toString();
    history.replaceState(history.state, "", location.pathname + (text ? `?${text}` : "") + location.hash);
  },
};

window.dash_clientside = Object.assign({}, window.dash_clientside, {
  ganatomyLive: {
    show(percentage, seeds, level, where) {
      if (where && seeds !== undefined && percentage !== undefined) {
        const without = String(percentage / 100), text = (seeds || "").trim();
        live.address(text, without, where.usual);
        live.element("share").textContent = `${percentage}%`;
        live.show(where, text, without, level ?? -1);
      }
      return window.dash_clientside.no_update;
    },
    earlier: (_clicks, seeds) => live.moved(seeds, -1),
    later: (_clicks, seeds) => live.moved(seeds, 1),
  },
});

// Shift and an arrow step through seeds; the arrows alone step through units.
addEventListener("keydown", (event) => {
  if (!event.shiftKey || event.altKey || event.ctrlKey || event.metaKey) return;
  const button = { ArrowLeft: "live-earlier", ArrowRight: "live-later" }[event.key];
  const found = button && document.getElementById(button);
  if (!found || (event.target.closest && event.target.closest("input:not([type=checkbox]), textarea, [role=slider]"))) return;
  event.preventDefault();
  found.click();
}, true);
