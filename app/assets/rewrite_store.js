// What a visitor has done on the Rewrite page, kept in the browser: a piece of work for each run, and edits' files by key.
// The server keeps none of it. Tabs of one browser share it, and tell each other when it has changed.
"use strict";

const rewriteStore = {
  ready: null,
  channel: "BroadcastChannel" in window ? new BroadcastChannel("ganatomy-rewrite") : null,

  open() {
    rewriteStore.ready ??= new Promise((resolve, reject) => {
      const asked = indexedDB.open("ganatomy-rewrite", 1);
      asked.onupgradeneeded = () => ["work", "files"].forEach((name) => asked.result.createObjectStore(name));
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error);
    });
    return rewriteStore.ready;
  },

  // Do one thing in one of the two stores; resolves once it is on disk.
  async within(name, mode, act) {
    const database = await rewriteStore.open();
    return new Promise((resolve, reject) => {
      const transaction = database.transaction(name, mode);
      const asked = act(transaction.objectStore(name));
      transaction.oncomplete = () => resolve(asked.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  },

  work: (run) => rewriteStore.within("work", "readonly", (store) => store.get(run)),

  async keep(run, work) {
    await rewriteStore.within("work", "readwrite", (store) => store.put(work, run));
    if (rewriteStore.channel) rewriteStore.channel.postMessage(run);
  },

  file: (key) => rewriteStore.within("files", "readonly", (store) => store.get(key)),
  keepFile: (key, data) => rewriteStore.within("files", "readwrite", (store) => store.put(data, key)),
};
