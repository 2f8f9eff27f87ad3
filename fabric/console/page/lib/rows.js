/* A long list of which only the part in sight is here: pages of rows, asked for by offset and limit as the table scrolls over them. */
import { ask } from "./api.js";
import { onEvent } from "./events.js";
import { useEffect, useState } from "./html.js";
import { paced } from "./load.js";

const PAGE = 60;
const KEPT_PAGES = 12;

class Rows {
  constructor(path, key, changed) {
    Object.assign(this, { path, key, changed, pages: new Map(), under: new Map(), total: null, head: null, problem: null, first: 0, last: 0 });
  }

  at(index) {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  /** Rows `first` to `last` are in sight. */
  want(first, last) {
    Object.assign(this, { first, last });
    for (const page of this.#inSight()) if (!this.pages.has(page)) this.#load(page);
  }

  /** What is in sight is loaded anew, what is not is forgotten. */
  refresh() {
    const seen = this.#inSight();
    for (const page of this.pages.keys()) if (!seen.includes(page)) this.pages.delete(page);
    seen.forEach((page) => this.#load(page));
  }

  end() {
    this.changed = () => {};
    for (const quit of this.under.values()) quit.abort();
  }

  #inSight() {
    const pages = [];
    for (let page = Math.floor(this.first / PAGE); page <= Math.floor(this.last / PAGE); page++) pages.push(page);
    return pages;
  }

  async #load(page) {
    if (this.under.has(page)) return;
    const quit = new AbortController();
    this.under.set(page, quit);
    try {
      const joint = this.path.includes("?") ? "&" : "?";
      const answer = await ask(`${this.path}${joint}offset=${page * PAGE}&limit=${PAGE}`, { signal: quit.signal });
      this.pages.delete(page);
      this.pages.set(page, answer[this.key]);
      if (this.pages.size > KEPT_PAGES) this.pages.delete(this.pages.keys().next().value);
      Object.assign(this, { total: answer.total, head: answer, problem: null });
    } catch (problem) {
      if (problem.name === "AbortError") return;
      this.problem = problem;
    } finally {
      this.under.delete(page);
    }
    this.changed();
  }
}

/** `{rows, total, head, problem}`; `head`: the last answer. While another path loads, the rows of the one before are shown. */
export function useRows(path, key, { events = [], gap_ms } = {}) {
  const [shown, setShown] = useState({ rows: null });
  useEffect(() => {
    const rows = new Rows(path, key, () => setShown({ rows }));
    rows.want(0, PAGE - 1);
    const pace = paced(() => rows.refresh(), gap_ms);
    const ends = ["hello", ...events].map((kind) => onEvent(kind, pace.call));
    return () => {
      ends.forEach((end) => end());
      pace.stop();
      rows.end();
    };
  }, [path]);
  return shown.rows;
}
