// What the browser does itself: moving between pages, keys, and pictures that follow a slider.
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
};

addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const anchor = event.target.closest && event.target.closest("a[href]");
  if (!anchor || anchor.target || anchor.hasAttribute("download") || anchor.dataset.plain !== undefined) return;
  if (anchor.origin !== location.origin || anchor.getAttribute("href").startsWith("#")) return;
  event.preventDefault();
  ganatomy.visit(anchor.href);
});

// An element with data-key is clicked by that key, unless the key belongs to what has the focus.
addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
  const at = event.target;
  if (at.closest && at.closest("input, textarea, select, [contenteditable], [role=slider], [role=gridcell], [role=listbox]")) return;
  const wanted = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (!wanted) return;
  event.preventDefault();
  wanted.click();
});

window.dash_clientside = Object.assign({}, window.dash_clientside, {
  ganatomy: {
    arrived() {
      requestAnimationFrame(() => {
        const main = document.querySelector("main");
        const title = main && main.dataset.title;
        document.title = title ? `${title} · ganatomy` : "ganatomy";
      });
      return window.dash_clientside.no_update;
    },
    go(href) {
      if (href) ganatomy.visit(href);
      return window.dash_clientside.no_update;
    },
  },
});
