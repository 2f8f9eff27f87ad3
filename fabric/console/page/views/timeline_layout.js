/* Where the rows, bars and marks of a timeline lie, and what lies under the pointer. Pixels count from the top of the first row. */

const LANE = 7;
const LEAST_ROW = 22;
const EDGE = 3;
const MARK_PX = 7;

export function layout(data) {
  const heights = data.rows.map((row) => Math.max(LEAST_ROW, row.lanes * LANE + 2 * EDGE));
  const tops = [];
  let height = 0;
  for (const each of heights) {
    tops.push(height);
    height += each;
  }
  const lane = (row) => (heights[row] - 2 * EDGE) / Math.max(1, data.rows[row].lanes);
  const bars = data.bars.map(([row, on, from, to, num, job, name, user, state]) => {
    const high = lane(row);
    return { row, from, to, num, job, name, user, state, top: tops[row] + EDGE + on * high, height: Math.max(2, high - 1) };
  });
  const marks = data.marks.map(([row, at, kind, num, job, name]) => ({ row, at, kind, num, job, name, y: tops[row] + heights[row] / 2 }));
  return { heights, tops, height, bars, marks, at: finder(data.rows, tops, heights, bars, marks) };
}

/** `(y, time, slack)` -> the mark or bar there; `slack`: seconds that a few pixels are. */
function finder(rows, tops, heights, bars, marks) {
  const barsOf = rows.map(() => []);
  const marksOf = rows.map(() => []);
  for (const bar of bars) barsOf[bar.row].push(bar);
  for (const mark of marks) marksOf[mark.row].push(mark);
  return (y, time, slack) => {
    const row = tops.findLastIndex((top) => top <= y);
    if (row < 0 || y > tops[row] + heights[row]) return null;
    const { host } = rows[row];
    const mark = marksOf[row].find((each) => Math.abs(each.at - time) <= 2 * slack && Math.abs(each.y - y) <= MARK_PX);
    if (mark) return { ...mark, host, isMark: true, from: mark.at, to: mark.at };
    const bar = barsOf[row].find((each) => each.from - slack <= time && time <= each.to + slack && each.top - 1 <= y && y <= each.top + each.height + 1);
    return bar ? { ...bar, host } : null;
  };
}
