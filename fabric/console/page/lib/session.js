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

/** `{token, refused}`; `refused`: why the last token was not taken, or "". */
export const session = cell({ token: null, refused: "" });

const NEW_MS = 3000;
let begun_ms = -Infinity;

/** The token was given a moment ago. */
export const isNew = () => performance.now() - begun_ms < NEW_MS;

export function openSession() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    keep(given);
    begun_ms = performance.now();
    history.replaceState(null, "", `${location.pathname}#/pools`);
  }
  session.set({ token: given || kept(), refused: "" });
}

export function beginSession(token) {
  keep(token);
  begun_ms = performance.now();
  session.set({ token, refused: "" });
}

/** The token that was asked with opens nothing here; a newer one may have come meanwhile. */
export function refuse(token, why) {
  if (session.get().token !== token) return;
  keep(null);
  session.set({ token: null, refused: why });
}

export function endSession() {
  keep(null);
  session.set({ token: null, refused: "" });
}
