/* Begins the page: the token, the theme, then everything else. */
import { App } from "./app.js";
import { html, render } from "./lib/html.js";
import { followRoute } from "./lib/route.js";
import { openSession } from "./lib/session.js";
import { followTheme } from "./lib/theme.js";

openSession();
followRoute();
followTheme();
render(html`<${App} />`, document.getElementById("page"));
