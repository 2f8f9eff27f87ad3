/* The token: taken out of the address (`#token=…`), kept for this tab only, sent in a header and never in a cookie. */
import { cell } from "./cell.js";

const KEY = "tierfabric.token";

function kept() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null; // storage is switched off: the token lives as long as the page
  }
}

function keep(token) {
  try {
    if (token) sessionStorage.setItem(KEY, token);
    else sessionStorage.removeItem(KEY);
  } catch {
    /* as above */
  }
}

/** `{token, refused}`; `refused`: the last token was not taken. */
export const session = cell({ token: null, refused: false });

export function openSession() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    keep(given);
    history.replaceState(null, "", `${location.pathname}#/pools`);
  }
  session.set({ token: given || kept(), refused: false });
}

export function beginSession(token) {
  keep(token);
  session.set({ token, refused: false });
}

/** The token that was asked with is no good; a newer one may have come meanwhile. */
export function refuse(token) {
  if (session.get().token !== token) return;
  keep(null);
  session.set({ token: null, refused: true });
}

export function endSession() {
  keep(null);
  session.set({ token: null, refused: false });
}
