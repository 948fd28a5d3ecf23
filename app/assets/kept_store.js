// What a visitor's browser keeps of a page's work: a piece for each run, and files by key. The server keeps none of it.
// Tabs of one browser share it, and tell each other when it has changed.
"use strict";

class KeptStore {
  // name: of the database; tables: what it holds, "work" and, where there are files, "files".
  constructor(name, tables = ["work"]) {
    Object.assign(this, { name, tables, ready: null });
    this.channel = "BroadcastChannel" in window ? new BroadcastChannel(name) : null;
  }

  open() {
    this.ready ??= new Promise((resolve, reject) => {
      const asked = indexedDB.open(this.name, 1);
      asked.onupgradeneeded = () => this.tables.forEach((table) => asked.result.createObjectStore(table));
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error);
    });
    return this.ready;
  }

  // Do one thing in a table; resolves once it is on disk.
  async within(table, mode, act) {
    const database = await this.open();
    return new Promise((resolve, reject) => {
      const transaction = database.transaction(table, mode);
      const asked = act(transaction.objectStore(table));
      transaction.oncomplete = () => resolve(asked.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  }

  work(run) { return this.within("work", "readonly", (store) => store.get(run)); }

  async keep(run, work) {
    await this.within("work", "readwrite", (store) => store.put(work, run));
    if (this.channel) this.channel.postMessage(run);
  }

  file(key) { return this.within("files", "readonly", (store) => store.get(key)); }
  keepFile(key, data) { return this.within("files", "readwrite", (store) => store.put(data, key)); }
}
