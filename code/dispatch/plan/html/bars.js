// The pictures of workers: a bar for each, and a line at their mean.

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
  const step = (right - left) / (loads.length || 1);
  const half = step * (loads.length <= 60 ? 0.4 : 0.5); // thin bars have no gaps between them
  const middle = (worker) => left + (worker + 0.5) * step;
  const y = (load) => bottom - (load / top) * (bottom - 4);
  const bars = loads.map((load, worker) => {
    const x = middle(worker);
    return `M${x - half} ${bottom}V${y(load)}H${x + half}V${bottom}Z`;
  });
  const lines = ticks.map(([load]) => `M${left} ${y(load)}H${right}`);
  pointed.set(picture, (x) => {
    const worker = Math.floor((x - left) / step);
    if (!(worker in loads) || x < left) return null;
    const place = { x: left + worker * step, y: 0, width: step, height: bottom };
    return { place, words: `worker ${number(worker)}: ${inWords(loads[worker])}` };
  });
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
      shape("path", { d: `M${left} ${y(sum / (loads.length || 1))}H${right}`, class: "mean" }),
    ])
  );
}

// The bars of these workers, by the places of their tasks; of none, those of the whole plan.
function drawLoads(workers) {
  for (const picture of document.querySelectorAll("[data-loads]")) {
    const { unit } = picture.dataset;
    const weigh = unit === "bytes" ? (task) => tasks.size[task] : () => 1;
    const loadOf = (worker) => worker.reduce((sum, task) => sum + weigh(task), 0);
    const loads = workers ? workers.map(loadOf) : JSON.parse(picture.dataset.loads);
    const inWords = unit === "bytes" ? size : number;
    const mean = loads.reduce((sum, load) => sum + load, 0) / (loads.length || 1);
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
