// The picture of the assets: a row for each subject, a column for each week or the like.

const dayNumber = (day) => Date.parse(day) / 86_400_000;
const dayOf = (days) => new Date(days * 86_400_000).toISOString().slice(0, 10);
const digits = (value, places) => String(value).padStart(places, "0");
// What columns can stand for: the period of a day, and its name, of which its first day is made.
const PERIODS = {
  day: { of: dayNumber, label: dayOf },
  week: {
    of: (day) => Math.floor((dayNumber(day) + 3) / 7),
    label: (weeks) => dayOf(7 * weeks - 3), // its Monday
  },
  month: {
    of: (day) => 12 * Number(day.slice(0, 4)) + Number(day.slice(5, 7)) - 1,
    label: (months) => `${digits(Math.floor(months / 12), 4)}-${digits((months % 12) + 1, 2)}`,
  },
  year: { of: (day) => Number(day.slice(0, 4)), label: (years) => digits(years, 4) },
};

// The first and the last day of a period.
function daysOf({ label }, period) {
  const first = (each) => `${label(each)}-01-01`.slice(0, 10);
  const after = dayNumber(first(period + 1)); // of which year 10,000 has no name
  return [first(period), Number.isNaN(after) ? "9999-12-31" : dayOf(after - 1)];
}

// The shortest period of which all in the years that have sessions fit into a picture: its name,
// what its columns are called, and the column of each day.
function gather(days) {
  const sorted = [...days].sort();
  const years = [...new Set(sorted.map((day) => day.slice(0, 4)))];
  let name, columns;
  for (name of Object.keys(PERIODS)) {
    const { of } = PERIODS[name];
    const found = new Set();
    for (const year of years) {
      const [first, last] = [`${year}-01-01`, `${year}-12-31`];
      const from = of(first < sorted[0] ? sorted[0] : first);
      const to = of(last > sorted.at(-1) ? sorted.at(-1) : last);
      for (let period = from; period <= to; period += 1) found.add(period);
    }
    columns = [...found];
    if (columns.length <= PERIODS_IN_PICTURE) break;
  }
  const places = new Map(columns.map((each, place) => [each, place]));
  return {
    period: name,
    labels: columns.map(PERIODS[name].label),
    days: columns.map((each) => daysOf(PERIODS[name], each)),
    column: new Map(days.map((day) => [day, places.get(PERIODS[name].of(day))])),
  };
}

// How many of these assets each subject has in each period; null if none has subject and day.
function countBySubject(chosen) {
  const placed = [];
  const subjects = new Set();
  for (const asset of chosen) {
    const subject = assets.subject.values[assets.subject.rows[asset]];
    const day = assets.day.values[assets.day.rows[asset]];
    if (subject) subjects.add(subject);
    if (subject && day) placed.push([subject, day]);
  }
  if (!placed.length) return null;
  const { period, labels, days, column } = gather([...new Set(placed.map(([, day]) => day))]);
  const names = [...subjects].sort(natural);
  const rows = new Map(names.map((name) => [name, new Array(labels.length).fill(0)]));
  const sums = new Array(labels.length).fill(0);
  for (const [subject, day] of placed) {
    rows.get(subject)[column.get(day)] += 1;
    sums[column.get(day)] += 1;
  }
  const total = (row) => row.reduce((sum, each) => sum + each, 0);
  return {
    period,
    labels,
    days,
    counts: [...rows.values()],
    periods: labels.map((label, place) => [label, sums[place]]),
    subjects: names.map((name) => [name, total(rows.get(name))]),
  };
}

function drawCounts(picture, { period, labels, days, counts, periods, subjects }) {
  const drawn = subjects.slice(0, SUBJECTS_IN_PICTURE);
  const names = drawn.map(([name]) => {
    const characters = [...visible(name)];
    return characters.length > 20 ? `${characters.slice(0, 19).join("")}…` : characters.join("");
  });
  const cell = 18;
  const left = 12 + 8 * Math.max(...names.map((name) => name.length));
  const [top, bar] = [98, 56];
  const room = byId("assets").clientWidth - left - 90;
  const step = Math.max(cell, Math.min(3 * cell, Math.floor(room / labels.length)));
  const [wide, high] = [labels.length * step, drawn.length * cell];
  const most = counts.slice(0, drawn.length).flat().reduce((a, b) => Math.max(a, b), 4);
  const highest = periods.reduce((a, [, sum]) => Math.max(a, sum), 1);
  const squares = ["", "", "", ""];
  const numbers = [];
  counts.slice(0, drawn.length).forEach((row, y) => {
    row.forEach((value, x) => {
      if (!value) return;
      const shade = Math.ceil((4 * value) / most);
      const [right, down] = [left + x * step, top + y * cell];
      squares[shade - 1] += `M${right} ${down}h${step}v${cell}h${-step}z`;
      if (value > 1) {
        const place = { x: right + step / 2, y: down + cell / 2 + 4, class: `more on${shade}` };
        numbers.push(shape("text", place, String(value)));
      }
    });
  });
  const bars = periods.map(([, sum], x) => {
    const height = (sum / highest) * bar;
    return `M${left + (x + 0.1) * step} ${8 + bar}v${-height}h${0.8 * step}v${height}z`;
  });
  let gaps = "";
  for (let x = 0; x <= labels.length; x += 1) gaps += `M${left + x * step} ${top}v${high}`;
  for (let y = 0; y <= drawn.length; y += 1) gaps += `M${left} ${top + y * cell}h${wide}`;
  const empty = { x: left, y: top, width: wide, height: high, class: "empty" };
  const shapes = [
    shape("rect", empty),
    ...squares.map((d, place) => shape("path", { d, class: `shade${place + 1}` })),
    shape("path", { d: gaps, class: "gaps" }),
    ...numbers,
    shape("path", { d: bars.join(""), class: "shade2" }),
    shape("text", { x: left - 6, y: 8 + bar, class: "left" }, "0"),
    shape("text", { x: left - 6, y: 14, class: "left" }, number(highest)),
  ];
  for (let x = 0; x < labels.length; x += Math.ceil((6 * cell) / step)) {
    shapes.push(shape("text", { x: left + x * step, y: top - 7 }, labels[x]));
  }
  drawn.forEach(([, total], row) => {
    const y = top + row * cell + cell / 2 + 4.5;
    shapes.push(shape("text", { x: left - 6, y, class: "left" }, names[row]));
    shapes.push(shape("text", { x: left + wide + 8, y }, number(total)));
  });
  picture.replaceChildren(drawing(left + wide + 90, top + high + 8, shapes));
  pointed.set(picture, (x, y) => {
    const column = Math.floor((x - left) / step);
    const row = Math.floor((y - top) / cell);
    const [isColumn, isRow] = [column in labels && x >= left, row in drawn && y >= top];
    if (!isRow && (!isColumn || y >= top)) return null;
    const subject = isRow ? drawn[row][0] : null;
    const sum = isRow ? drawn[row][1] : periods[column][1];
    const held = isRow && isColumn ? counts[row][column] : sum;
    if (!held) return null;
    const what = isColumn ? [period === "week" ? `week of ${labels[column]}` : labels[column]] : [];
    if (isRow) what.unshift(visible(subject));
    const place = {
      x: isColumn ? left + column * step : left,
      y: isRow ? top + row * cell : 8,
      width: isColumn ? step : wide,
      height: isRow ? cell : bar,
    };
    const choose = () => chooseIn(subject, isColumn ? days[column] : null);
    return { place, choose, words: `${what.join(", ")}: ${count(held, "asset")}` };
  });
}

function captionOf({ period, subjects }) {
  const whichPeriods = { week: ", from Monday", year: " that has sessions" }[period] ?? "";
  const drawn = `The first ${SUBJECTS_IN_PICTURE} of ${number(subjects.length)} subjects are drawn`;
  return [
    `One row per subject, one column per ${period}${whichPeriods}.`,
    "A square is one asset, a number in it counts more.",
    "Bars add up the columns, numbers at the right the rows. A click chooses what it points at.",
    subjects.length > SUBJECTS_IN_PICTURE
      ? `${drawn}; the bars and the table of subjects count all.`
      : "",
  ].join(" ");
}

// As a table, in which the names choose, for the keyboard.
function fillTable(place, noun, counts, chooseRow) {
  const table = document.querySelector(`[data-counted=${place}]`);
  const title = `Assets by ${noun}, as a table`;
  table.querySelector("summary").textContent = title;
  table.querySelector("[role=region]").setAttribute("aria-label", title);
  table.querySelector("th").textContent = noun[0].toUpperCase() + noun.slice(1);
  table.ontoggle = () => {
    if (!table.open) return; // what nobody sees is not filled in
    const rows = counts.map(([name, each], row) => {
      const button = make("button", { type: "button", class: "plain" }, name);
      button.addEventListener("click", () => chooseRow(row));
      const header = make("th", { scope: "row" }, button);
      return make("tr", {}, header, make("td", { class: "n" }, number(each)));
    });
    table.querySelector("tbody").replaceChildren(...rows);
  };
  table.ontoggle();
}

function showAssets(chosen) {
  const subjects = new Set(chosen.map((asset) => assets.subject.rows[asset]));
  const days = [...new Set(chosen.map((asset) => assets.day.rows[asset]))];
  const knownDays = days.map((day) => assets.day.values[day]).filter(Boolean).sort();
  const missing = ({ values, rows }) => chosen.filter((asset) => !values[rows[asset]]).length;
  const known = [...subjects].filter((subject) => assets.subject.values[subject]);
  const counts = countBySubject(chosen);
  const lacking = [
    [missing(assets.subject), "a subject"],
    [missing(assets.day), "a session date"],
  ].filter(([missed]) => missed);
  let sentence = `${count(chosen.length, "asset")} of ${count(known.length, "subject")}`;
  if (knownDays.length) {
    sentence += `, with sessions from ${knownDays[0]} to ${knownDays[knownDays.length - 1]}`;
  }
  if (lacking.length) {
    const without = lacking.map(([missed, what]) => `${count(missed, "asset")} without ${what}`);
    sentence += `. ${counts ? "Not in the picture" : "No picture"}: ${without.join(", ")}`;
  }
  byId("assets-text").textContent = `${sentence}.`;
  byId("assets-figure").hidden = !counts;
  if (!counts) return;
  byId("picture-text").textContent = captionOf(counts);
  drawCounts(document.querySelector("#assets .picture"), counts);
  fillTable("period", counts.period, counts.periods, (row) => chooseIn(null, counts.days[row]));
  const chooseSubject = (row) => chooseIn(counts.subjects[row][0], null);
  fillTable("subject", "subject", counts.subjects, chooseSubject);
}
