// Where broken images are broken: the editor of the Artifacts page.
"use strict";

const artifactWhere = {
  editor: null,
  wanted: null,  // seed of an image that was just tagged

  // The tags or regions have changed, here or elsewhere.
  told(tags, regions) {
    const root = document.getElementById("artifacts-where");
    if (!root) return;
    if (!this.editor || this.editor.root !== root) {
      const asks = "Where is it broken? The ranking “defect” needs at least three marked images.";
      this.editor = new MarkEditor(root, asks, (seed, mask) => {
        window.dash_clientside.set_props("artifacts-news", { data: { regions: { [seed]: mask }, at: Date.now() } });
      });
    }
    this.editor.told(Object.keys(tags).filter((seed) => tags[seed] === "broken").map(Number), regions, this.wanted);
    this.wanted = null;
  },
};
