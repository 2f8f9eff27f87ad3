/* The one place that knows which library draws the page: Preact, with htm's tagged templates instead of JSX.
   Whatever stands in `${…}` enters the document as text or as a component, never as markup. */
import { h } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export { render } from "../vendor/preact.js";
export { useCallback, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "../vendor/hooks.js";
export const html = htm.bind(h);
