// What a visitor has painted, kept in the browser: one piece of work for each run. The server keeps none of it.
// Tabs of one browser share it, and tell each other when it has changed.
"use strict";

const paintStore = {
  ready: null,
  channel: "BroadcastChannel" in window ? new BroadcastChannel("ganatomy-paint") : null,

  open() {
    paintStore.ready ??= new Promise((resolve, reject) => {
      const asked = indexedDB.open("ganatomy-paint", 1);
      asked.onupgradeneeded = () => asked.result.createObjectStore("work");
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error);
    });
    return paintStore.ready;
  },

  // Do one thing; resolves once it is on disk.
  async within(mode, act) {
    const database = await paintStore.open();
    return new Promise((resolve, reject) => {
      const transaction = database.transaction("work", mode);
      const asked = act(transaction.objectStore("work"));
      transaction.oncomplete = () => resolve(asked.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  },

  work: (run) => paintStore.within("readonly", (store) => store.get(run)),

  async keep(run, work) {
    await paintStore.within("readwrite", (store) => store.put(work, run));
    if (paintStore.channel) paintStore.channel.postMessage(run);
  },
};
