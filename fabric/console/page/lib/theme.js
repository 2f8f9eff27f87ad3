/* Light or dark: as the system says, or as chosen here. Charts are drawn by script and follow the cell. */
import { cell } from "./cell.js";

const KEY = "tierfabric.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

const actual = () => chosen() ?? (system.matches ? "dark" : "light");

export const theme = cell("light");

function show() {
  const now = actual();
  document.documentElement.dataset.theme = now;
  theme.set(now);
}

export function followTheme() {
  system.addEventListener("change", show);
  show();
}

export function turnTheme() {
  const next = theme.get() === "dark" ? "light" : "dark";
  try {
    localStorage.setItem(KEY, next);
  } catch {
    document.documentElement.dataset.theme = next;
    return theme.set(next);
  }
  return show();
}

/** The colour that the style sheet gives a name: `colour("hot")` is `--hot`. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
