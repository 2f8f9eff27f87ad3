/* Which view is shown: the part of the address behind `#`, as in `#/job/0192…`. */
import { cell } from "./cell.js";

function read() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = path.split("/");
  let name = rest.join("/");
  try {
    name = decodeURIComponent(name);
  } catch {
    /* as it stands */
  }
  return { view: view || "pools", name, filters: Object.fromEntries(new URLSearchParams(search)) };
}

/** `{view, name, filters}` */
export const route = cell(read());
export const followRoute = () => {
  route.set(read()); // the token was taken out of the address meanwhile
  addEventListener("hashchange", () => route.set(read()));
};

export const to = (view, name = "") => (name ? `#/${view}/${encodeURIComponent(name)}` : `#/${view}`);

export function go(view, name = "") {
  location.hash = to(view, name);
}

/** Keeps a view's filters in the address, so that it can be sent to somebody; does not count as a step back. */
export function keepFilters(view, filters) {
  const given = Object.entries(filters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const hash = `#/${view}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
  if (hash !== location.hash) history.replaceState(null, "", location.pathname + hash);
}
