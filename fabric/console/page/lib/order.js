/* Orders to the fabric: asked first where they destroy something, one at a time each, their outcome told in a line. */
import { ask } from "./api.js";
import { cell } from "./cell.js";

/** The question that waits for an answer, or null: `{title, text, verb, field?, resolve}` */
export const question = cell(null);
/** What the last orders came to: `[{key, text, isBad}]` */
export const notices = cell([]);
/** Orders under way, by name. */
export const underWay = cell(new Set());

let lastKey = 0;

export function tellNotice(text, isBad = false) {
  const notice = { key: ++lastKey, text, isBad };
  notices.set([...notices.get().slice(-3), notice]);
  setTimeout(() => dismiss(notice.key), isBad ? 12_000 : 6000);
}

export function dismiss(key) {
  notices.set(notices.get().filter((each) => each.key !== key));
}

/** Asks the reader; gives true (or the field's value) or null. */
export function confirmed(asked) {
  return new Promise((resolve) => question.set({ ...asked, resolve }));
}

/** Sends `POST path` once, however often it is pressed. Gives the answer, or null where it was refused. */
export async function order(path, { body, method = "POST", done, name = path }) {
  if (underWay.get().has(name)) return null;
  underWay.set(new Set([...underWay.get(), name]));
  try {
    const answer = await ask(path, { method, body });
    tellNotice(typeof done === "function" ? done(answer) : done);
    return answer ?? {};
  } catch (error) {
    tellNotice(error.hint ? `${error.message}. ${error.hint}` : error.message, true);
    return null;
  } finally {
    underWay.set(new Set([...underWay.get()].filter((each) => each !== name)));
  }
}
