// The pictures: bars of workers, and squares of subjects and weeks.

function shape(name, attributes, string = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = string;
  return element;
}

function drawing(width, height, shapes) {
  const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
  svg.append(...shapes);
  return svg;
}

// Round numbers from 0 to this one, in so many steps at most.
function ticksTo(most, steps) {
  let step = 1;
  for (let power = 1; most / step > steps; power *= 10) {
    const round = [1, 2, 2.5, 5, 10].map((factor) => factor * power).filter(Number.isInteger);
    step = round.find((each) => most / each <= steps) ?? step;
  }
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, tick) => tick * step);
}

// One bar per worker, and a dashed line at their mean.
function drawBars(picture, loads) {
  const inWords = picture.dataset.unit === "bytes" ? size : number;
  const top = 1.05 * loads.reduce((most, load) => Math.max(most, load), 1);
  const sum = loads.reduce((total, load) => total + load, 0);
  const ticks = ticksTo(top, 4).map((load) => [load, inWords(load)]);
  const [width, height, bottom, right] = [460, 192, 148, 456];
  const left = 12 + 7.5 * Math.max(...ticks.map(([, label]) => label.length));
  const step = (right - left) / loads.length;
  const half = step * (loads.length <= 60 ? 0.4 : 0.5); // thin bars have no gaps between them
  const middle = (worker) => left + (worker + 0.5) * step;
  const y = (load) => bottom - (load / top) * (bottom - 4);
  const bars = loads.map((load, worker) => {
    const x = middle(worker);
    return `M${x - half} ${bottom}V${y(load)}H${x + half}V${bottom}Z`;
  });
  const lines = ticks.map(([load]) => `M${left} ${y(load)}H${right}`);
  picture.replaceChildren(
    drawing(width, height, [
      ...ticksTo(loads.length - 1, 9).map((worker) =>
        shape("text", { x: middle(worker), y: bottom + 17, class: "middle" }, number(worker))
      ),
      shape("text", { x: (left + right) / 2, y: height - 8, class: "middle" }, "worker"),
      ...ticks.map(([load, label]) =>
        shape("text", { x: left - 6, y: y(load) + 4, class: "left" }, label)
      ),
      shape("path", { d: lines.join(""), class: "lines" }),
      shape("path", { d: bars.join(""), class: "shade2" }),
      shape("path", { d: `M${left} ${y(sum / loads.length)}H${right}`, class: "mean" }),
    ])
  );
}

// The bars of these tasks, or, without any choice, of all that the plan has.
function drawLoads(chosenTasks, isNarrowed) {
  for (const picture of document.querySelectorAll("[data-loads]")) {
    let loads = JSON.parse(picture.dataset.loads);
    const { unit } = picture.dataset;
    if (isNarrowed) {
      loads = loads.map(() => 0);
      for (const task of chosenTasks) {
        loads[tasks.worker[task]] += unit === "bytes" ? tasks.size[task] : 1;
      }
    }
    const inWords = unit === "bytes" ? size : number;
    const mean = loads.reduce((sum, load) => sum + load, 0) / loads.length;
    const most = loads.reduce((top, load) => Math.max(top, load), 0);
    const [meanShown, mostShown] = picture.parentElement.querySelectorAll("dd");
    meanShown.textContent = inWords(mean);
    mostShown.textContent = inWords(most);
    const title = picture.closest("figure").querySelector("h3").textContent;
    const spread = `a dashed line at the mean, ${inWords(mean)}, and ${inWords(most)} at most`;
    picture.setAttribute("aria-label", `${title}, as bars, with ${spread}.`);
    drawBars(picture, loads);
  }
}

// ----------------------------------------------------------------------------- subjects and weeks

const dayNumber = (day) => Date.parse(day) / 86_400_000;
const dayOf = (days) => new Date(days * 86_400_000).toISOString().slice(0, 10);
const digits = (value, places) => String(value).padStart(places, "0");
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
  const { period, labels, column } = gather([...new Set(placed.map(([, day]) => day))]);
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
    counts: [...rows.values()],
    periods: labels.map((label, place) => [label, sums[place]]),
    subjects: names.map((name) => [name, total(rows.get(name))]),
  };
}

function drawCounts({ labels, counts, periods, subjects }) {
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
  return drawing(left + wide + 90, top + high + 8, shapes);
}

function captionOf({ period, subjects }) {
  const whichPeriods = { week: ", from Monday", year: " that has sessions" }[period] ?? "";
  const drawn = `The first ${SUBJECTS_IN_PICTURE} of ${number(subjects.length)} subjects are drawn`;
  return [
    `One row per subject, one column per ${period}${whichPeriods}.`,
    "A square is one asset, a number in it counts more.",
    "Bars add up the columns, numbers at the right the rows.",
    subjects.length > SUBJECTS_IN_PICTURE
      ? `${drawn}; the bars and the table of subjects count all.`
      : "",
  ].join(" ");
}

function fillTable(place, noun, counts) {
  const table = document.querySelector(`[data-counted=${place}]`);
  const title = `Assets by ${noun}, as a table`;
  table.querySelector("summary").textContent = title;
  table.querySelector("[role=region]").setAttribute("aria-label", title);
  table.querySelector("th").textContent = noun[0].toUpperCase() + noun.slice(1);
  table.ontoggle = () => {
    if (!table.open) return; // what nobody sees is not filled in
    const rows = counts.map(([name, each]) =>
      make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "n" }, number(each)))
    );
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
  document.querySelector("#assets .picture").replaceChildren(drawCounts(counts));
  fillTable("period", counts.period, counts.periods);
  fillTable("subject", "subject", counts.subjects);
}
