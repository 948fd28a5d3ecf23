// Three small helpers, each for the page that has its element: the chart, the filters, the unit's pictures.
"use strict";

function drawChart(holder) {
  const { figure, links } = JSON.parse(document.getElementById("chart-data").textContent);
  const themed = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const layout = { "font.color": colour("--ink"), "font.family": style.fontFamily, "hoverlabel.font.color": colour("--ink"),
      "hoverlabel.bgcolor": colour("--card"), "hoverlabel.bordercolor": colour("--line") };
    for (const key of Object.keys(figure.layout)) {
      if (/^[xy]axis/.test(key)) {
        layout[key + ".gridcolor"] = colour("--line");
        layout[key + ".linecolor"] = layout[key + ".zerolinecolor"] = colour("--rule");
        layout[key + ".tickfont.color"] = layout[key + ".title.font.color"] = colour("--quiet");
      }
    }
    return layout;
  };
  Plotly.newPlot(holder, figure.data, figure.layout, { responsive: true, displayModeBar: false }).then(() => {
    Plotly.relayout(holder, themed());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => Plotly.relayout(holder, themed()));
    holder.on("plotly_click", ({ points: [{ customdata: [panel, concept] }] }) => {
      location.href = links[panel] + "#concept=" + concept;
    });
  });
}

function filterUnits(form) {
  const list = document.getElementById("units");
  const items = [...list.children];
  const by = {
    rank: (a, b) => a.rank - b.rank,
    unit: (a, b) => a.unit - b.unit,
    d: (a, b) => b.d - a.d,
    iou: (a, b) => b.iou - a.iou,
    concept: (a, b) => a.concept - b.concept || a.rank - b.rank,
  };
  const update = () => {
    const { concept, sort, labelled } = form.elements;
    let count = 0;
    for (const item of items) {
      const { dataset } = item;
      item.hidden = (concept.value && dataset.concept !== concept.value) || (labelled.checked && dataset.labelled !== "1");
      count += !item.hidden;
    }
    list.append(...items.sort((a, b) => by[sort.value](a.dataset, b.dataset)));
    document.getElementById("count").textContent = count + (count === 1 ? " unit" : " units");
  };
  const fromAddress = () => {
    const asked = new URLSearchParams(location.hash.slice(1)).get("concept");
    if (asked !== null) {
      form.elements.concept.value = asked;
      form.elements.labelled.checked = true;
    }
    update();
  };
  form.hidden = false;
  form.addEventListener("change", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", fromAddress);
  fromAddress();
}

function togglePictures(button) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const pressed = document.getElementById("tops").classList.toggle("unmasked");
    document.getElementById("bands")?.classList.toggle("unmasked", pressed);
    button.setAttribute("aria-pressed", pressed);
  });
}

addEventListener("DOMContentLoaded", () => {
  const run = (id, action) => {
    const element = document.getElementById(id);
    if (element) action(element);
  };
  run("chart", drawChart);
  run("filters", filterUnits);
  run("whole", togglePictures);
});

addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select")) return;
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = rel && document.querySelector(`a[rel="${rel}"]`);
  if (link) location.href = link.href;
});
