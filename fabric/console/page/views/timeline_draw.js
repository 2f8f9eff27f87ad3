/* Draws a timeline's rows, bars and marks into uPlot's canvas. Bars of one state are drawn together; states differ by hatching, too. */
import { colour } from "../lib/theme.js";
import { BARS, MARKS } from "../lib/words.js";
import { FONT } from "../parts/chart.js";

const LEAST_TEXT_PX = 56;

/** Every colour that is drawn with, read once for a theme. */
export function palette() {
  const bars = Object.fromEntries(Object.keys(BARS).map((state) => [state, colour(`bar-${state}`)]));
  const marks = Object.fromEntries(Object.keys(MARKS).map((kind) => [kind, colour(`mark-${kind}`)]));
  return { bars, marks, line: colour("line"), hatch: colour("surface"), text: colour("bar-text"), halo: colour("surface"), patterns: {} };
}

export function draw(plot, rows, colours) {
  const { ctx, bbox } = plot;
  const px = devicePixelRatio;
  const x = (time) => plot.valToPos(time, "x", true);
  const y = (top) => bbox.top + top * px;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = colours.line;
  for (const top of rows.tops) ctx.fillRect(bbox.left, Math.round(y(top)), bbox.width, 1);
  const byState = Map.groupBy(rows.bars, (bar) => bar.state);
  for (const [state, bars] of byState) {
    const boxes = bars.map((bar) => [x(bar.from), y(bar.top), Math.max(px, x(bar.to) - x(bar.from) - 0.5 * px), bar.height * px]);
    ctx.fillStyle = colours.bars[state] ?? colours.bars.mixed;
    for (const box of boxes) ctx.fillRect(...box);
    const hatch = pattern(ctx, BARS[state]?.pattern, colours, px);
    if (hatch) {
      ctx.fillStyle = hatch;
      for (const box of boxes) if (box[2] > 3 * px) ctx.fillRect(...box);
    }
  }
  drawNames(ctx, rows, colours, x, y, px, bbox);
  drawMarks(ctx, rows, colours, x, y, px);
  ctx.restore();
}

/** A bar that is wide and high enough carries its job's name. */
function drawNames(ctx, rows, colours, x, y, px, bbox) {
  ctx.font = FONT.replace(/^\d+px/, `${10 * px}px`);
  ctx.fillStyle = colours.text;
  ctx.textBaseline = "middle";
  for (const bar of rows.bars) {
    if (bar.height < 11 || !bar.name) continue;
    const left = Math.max(x(bar.from), bbox.left) + 4 * px;
    const room = x(bar.to) - left - 4 * px;
    if (room < LEAST_TEXT_PX * px) continue;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, y(bar.top), room, bar.height * px);
    ctx.clip();
    ctx.fillText(bar.name.slice(0, 60), left, y(bar.top + bar.height / 2));
    ctx.restore();
  }
}

function drawMarks(ctx, rows, colours, x, y, px) {
  ctx.font = `bold ${11 * px}px system-ui, sans-serif`;
  ctx.textAlign = "center";
  ctx.textBaseline = "middle";
  ctx.lineJoin = "round";
  ctx.lineWidth = 3 * px;
  ctx.strokeStyle = colours.halo;
  for (const mark of rows.marks) {
    const { sign } = MARKS[mark.kind] ?? { sign: "•" };
    ctx.strokeText(sign, x(mark.at), y(mark.y));
    ctx.fillStyle = colours.marks[mark.kind] ?? colours.text;
    ctx.fillText(sign, x(mark.at), y(mark.y));
  }
}

/** Hatching of 6 by 6 pixels, kept with the palette. */
function pattern(ctx, kind, colours, px) {
  if (!kind || kind === "plain") return null;
  return (colours.patterns[kind] ??= ctx.createPattern(tile(kind, colours.hatch, 6 * px, px), "repeat"));
}

function tile(kind, ink, size, px) {
  const canvas = new OffscreenCanvas(size, size);
  const ctx = canvas.getContext("2d");
  ctx.strokeStyle = ink;
  ctx.globalAlpha = 0.55;
  ctx.lineWidth = px;
  ctx.beginPath();
  // Drawn once beyond each side, so that the tiles meet.
  for (const shift of [-size, 0, size]) {
    if (kind !== "falling") {
      ctx.moveTo(shift, size);
      ctx.lineTo(shift + size, 0);
    }
    if (kind !== "rising") {
      ctx.moveTo(shift, 0);
      ctx.lineTo(shift + size, size);
    }
  }
  ctx.stroke();
  return canvas;
}
